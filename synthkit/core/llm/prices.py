"""What requests cost: the list price that the parameters state, and that it has to be stated."""

from urllib.parse import urlparse

from synthkit.core.errors import ParamError
from synthkit.core.llm.completions import TEMPLATE_TOKENS, Completion
from synthkit.core.params import StudentParams, TeacherParams

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_prices(params: TeacherParams | StudentParams, base_url: str) -> None:
    """Raise ParamError where an endpoint beyond this machine has no price: nothing would then count against the budget.

    `base_url` is the resolved URL. A price of 0.0 that is written down is taken at its word.
    """
    missing = [name for name in ("usd_per_mtok_in", "usd_per_mtok_out") if getattr(params, name) is None]
    if not missing or is_loopback(base_url):
        return
    section = "teacher" if isinstance(params, TeacherParams) else "mlgym_eval.student"
    names = " and ".join(f"{section}.{name}" for name in missing)
    raise ParamError(f"{base_url} has no price: {names} {'are' if missing[1:] else 'is'} null",
                     "write the price per million tokens; 0.0 where it costs nothing")


def is_loopback(base_url: str) -> bool:
    """Whether an endpoint is on this machine."""
    try:
        return urlparse(base_url).hostname in LOOPBACK
    except ValueError:
        return False


def price_tokens(params: TeacherParams | StudentParams, tokens_in: int, tokens_out: int) -> float:
    """USD at the list price; a price that is not set counts as 0."""
    return (tokens_in * (params.usd_per_mtok_in or 0.0) + tokens_out * (params.usd_per_mtok_out or 0.0)) / 1e6


def price_request(teacher: TeacherParams, size: int) -> float:
    """USD that a request of `size` bytes may cost at most: no token is shorter than a byte."""
    return price_tokens(teacher, size + TEMPLATE_TOKENS, teacher.max_output_tokens)


def price_completion(teacher: TeacherParams, size: int, completion: Completion) -> float:
    """USD of an answer; of one whose usage cannot be believed, all that the request could have cost."""
    if completion.estimated:
        return price_request(teacher, size)
    return price_tokens(teacher, completion.tokens_in, completion.tokens_out)


def is_priced(teacher: TeacherParams) -> bool:
    """Whether tokens of this endpoint cost anything."""
    return bool(teacher.usd_per_mtok_in or teacher.usd_per_mtok_out)
