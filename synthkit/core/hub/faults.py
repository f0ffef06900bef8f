"""What an exception of the Hub's client means: a dataset that is refused, or a Hub that cannot be used."""

from synthkit.core.errors import EndpointError, HubError, TransientEndpointError


def explain_error(error: Exception, name: str, where: str, token_env: str) -> Exception:
    """An exception of the Hub's client as a typed reason or an EndpointError; anything else as it is."""
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return HubError("gated", f"{name} is gated: its terms have to be accepted by a person")
    if isinstance(error, errors.DisabledRepoError):
        return HubError("disabled", f"{name} is disabled on the Hub")
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return HubError("not_found", f"there is no dataset {name}, or it is private")
    unreachable = f"{where} cannot be reached", "check hub.endpoint and the network, then start again"
    # The client says that a file is not in its cache when the Hub did not answer: that is no missing file.
    if isinstance(error, errors.LocalEntryNotFoundError):
        return TransientEndpointError(*unreachable)
    if isinstance(error, errors.EntryNotFoundError | errors.RevisionNotFoundError):
        return HubError("no_data", f"{name}: a file of the pinned commit is gone")
    if isinstance(error, errors.HfHubHTTPError):
        return explain_status(error.response.status_code, name, where, token_env)
    if isinstance(error, httpx2.ConnectError | ConnectionError):
        return EndpointError(*unreachable)
    if isinstance(error, httpx2.HTTPError | TimeoutError):
        return TransientEndpointError(*unreachable)
    return error


def explain_status(status: int, name: str, where: str, token_env: str) -> Exception:
    """An HTTP status that has no exception of its own as a typed error: a bad token, what may pass, or a refusal."""
    if status in (401, 403):
        return EndpointError(f"{where} refused the token", f"set or renew {token_env}")
    if status in (408, 409, 429) or status >= 500:
        return TransientEndpointError(f"{where} answered {status}", "start again later")
    return HubError("not_found", f"{where} refused to look up {name} (status {status})")
