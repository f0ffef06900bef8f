"""Every error of the kit gives its cause and its fix; whether to try again is a property of the type.

A bad rollout, a bad reply or a bad generated task is data and is recorded as such.
Only what a person has to act on is raised to the top.
"""


class SynthkitError(Exception):
    """Base of all errors: `cause` says what is wrong, `fix` what to do about it."""

    retryable = False

    def __init__(self, cause: str, fix: str = ""):
        super().__init__(cause)
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.cause}\n  fix: {self.fix}" if self.fix else self.cause


class ParamError(SynthkitError):
    """A parameter is missing, misspelt, mistyped or out of range; `cause` lists every fault found."""


class StageError(SynthkitError):
    """A stage cannot start or did not finish (predecessor missing, other fingerprint, failed check)."""


class RecordError(SynthkitError):
    """A record file holds a line that is not a record; `cause` names file and line."""


class EndpointError(SynthkitError):
    """An endpoint cannot be used: unreachable, refused the key, unknown model."""


class TransientEndpointError(EndpointError):
    """An endpoint failed in a way that may pass: timeout, 429, 5xx."""

    retryable = True


class ReplyError(SynthkitError):
    """A model's reply does not follow the form asked for, after one request for repair. Data, not a crash."""


class BudgetError(SynthkitError):
    """The run's USD budget would be exceeded by the next request."""


class HubError(SynthkitError):
    """A dataset is refused; `reason` is the typed reason that the funnel counts."""

    def __init__(self, reason: str, cause: str, fix: str = ""):
        super().__init__(cause, fix)
        self.reason = reason


class SandboxError(SynthkitError):
    """No sandbox could be started, or it died and could not be restarted."""


class TaskError(SynthkitError):
    """A task folder breaks the contract: missing file, unknown key, unescaped brace."""
