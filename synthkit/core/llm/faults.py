"""What an endpoint's refusals and breakdowns mean: for the money, for another try, and for the item that asked.

Servers word the same fault in their own ways. The words for an overflow of the context window are those of vLLM,
SGLang, llama.cpp, Ollama, LM Studio, OpenAI, Azure, OpenRouter, Gemini and Anthropic as their sources and answers
have them; status 400 in most, 413 where a proxy counts bytes, 500 in older llama.cpp.
"""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from synthkit.core.errors import (
    ContextOverflow,
    EndpointError,
    FilteredReply,
    ReplyError,
    SynthkitError,
    TransientEndpointError,
)
from synthkit.core.llm.completions import as_dict
from synthkit.core.params import TeacherParams

LONGEST_WAIT_S = 120.0
PASSING = (408, 409, 425, 429, 499)
NO_CHAT = (405, 407, 421)
# OpenRouter's 403 for one prompt: the key is a good one.
MODERATION = re.compile(r"moderation|flagged|content policy", re.IGNORECASE)
REFUSED_PARAMETER = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
FILTERED = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
OVERFLOW_CODES = ("context_length_exceeded", "exceed_context_size_error", "context_window_exceeded",
                  "model_context_window_exceeded", "request_too_large", "input_tokens", "input_text")
OVERFLOW = re.compile(
    r"maximum context length|context length is only|longer than the (maximum )?model('?s)?( context)? length"
    r"|exceeds? (the )?(available |maximum |configured )?context (size|length|window|limit)"
    r"|context (size|length|window) (has been )?exceed|exceeded (max )?context length"
    r"|(greater|larger|longer) than the context length|(prompt|input) is too long|maximum prompt length"
    r"|cannot be greater than max_(model_len|total_tokens)|input token count .*exceeds"
    r"|reduce the length of the (messages|input|prompt)|context_length_exceeded|exceed_context_size_error",
    re.IGNORECASE)
WINDOW = re.compile(
    r"(?:context (?:length|size|window)|model length|max_model_len|max_total_tokens)"
    r"(?: is only| is| of|=max_total_tokens=|=)?[ (]*(\d[\d,]*)", re.IGNORECASE)


class Failure(Exception):
    """An attempt that brought no reply.

    `error` is what to raise when it is final; `charged` says whether the request may have been worked on, so that it
    counts with all it could cost; `again` whether the same request may work later, at the earliest after `wait_s`.
    """

    def __init__(self, error: SynthkitError, *, charged: bool, again: bool = False, wait_s: float | None = None):
        super().__init__(error.cause)
        self.error, self.charged, self.again, self.wait_s = error, charged, again, wait_s


@dataclass(frozen=True)
class Answer:
    """An error as the server words it: the first line of its message, its code or type, and the parameter it names."""

    status: int
    message: str
    codes: tuple[str, ...] = ()
    param: str = ""
    window: int | None = None


def read_answer(status: int, body: bytes) -> Answer:
    """Read the body of an error, whichever of the usual shapes it has, or none."""
    text = body.decode("utf-8", "replace")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return Answer(status, shorten(text))
    error = as_dict(whole).get("error", whole)
    if isinstance(error, str):
        return Answer(status, shorten(error))
    error = as_dict(error)
    message = str(error.get("message") or error.get("detail") or "")
    if raw := as_dict(error.get("metadata")).get("raw"):  # OpenRouter: what the provider behind it said.
        message += f" ({raw})"
    inner = as_dict(error.get("innererror"))
    codes = tuple(str(code) for code in (error.get("code"), error.get("type"), inner.get("code")) if code)
    window = error.get("n_ctx")
    return Answer(status, shorten(message), codes, str(error.get("param") or ""),
                  window if isinstance(window, int) and window > 0 else None)


def shorten(text: str) -> str:
    """One line of at most 600 characters."""
    return " ".join(text.split())[:600]


def explain_answer(place: str, answer: Answer, teacher: TeacherParams) -> SynthkitError:
    """An answer that is an error as one of ours: what a person must mend, what may pass, what this request caused."""
    status = answer.status
    if status == 403 and MODERATION.search(answer.message):
        return FilteredReply(f"{place} refused the request: {hide_key(answer.message[:300], teacher)}")
    if status in (401, 403):
        return EndpointError(f"{place} refused the key", f"set {teacher.key_env} to a key that may use it")
    if status == 404 or "model_not_found" in answer.codes:
        return EndpointError(f"{place} has no model {teacher.model!r}", "correct teacher.model or teacher.base_url")
    if status == 402 or "insufficient_quota" in answer.codes:
        return EndpointError(f"{place} says that the account has no credit left", "add credit, then start again")
    if status not in PASSING and is_overflow(answer):
        return explain_overflow(place, answer, teacher)
    if status >= 500 or status in PASSING:
        return TransientEndpointError(f"{place} answered {status} {teacher.max_retries + 1} times",
                                      "start again later, or lower teacher.concurrency")
    message = hide_key(answer.message[:300], teacher)
    if status in NO_CHAT:
        return EndpointError(f"{place} answered {status}: {message}", "correct teacher.base_url, or a proxy's settings")
    return explain_refusal(place, answer, message)


def explain_refusal(place: str, answer: Answer, message: str) -> SynthkitError:
    """A request that the server does not take: for a parameter, which no request may have, or for what it says."""
    if any(code in FILTERED for code in answer.codes):
        return FilteredReply(f"the content filter of {place} stopped the request: {message}")
    unknown = any(code in REFUSED_PARAMETER for code in answer.codes)
    if not unknown and answer.param.partition("[")[0] in ("", "messages"):
        return ReplyError(f"{place} refused the request: {message}")
    too_much = answer.param in OUTPUT_LIMITS and not unknown
    fix = "lower teacher.max_output_tokens" if too_much else "set it to null in the section teacher"
    return EndpointError(f"{place} refuses a parameter: {message}", fix)


def is_overflow(answer: Answer) -> bool:
    """Whether the server says that the conversation is too long for the model."""
    if answer.status == 413 or any(code in OVERFLOW_CODES for code in (*answer.codes, answer.param)):
        return True
    return bool(OVERFLOW.search(answer.message))


def explain_overflow(place: str, answer: Answer, teacher: TeacherParams) -> SynthkitError:
    """This conversation's own fault, unless the reply alone may be as long as the window: then none would fit."""
    window = answer.window or read_window(answer.message)
    if window is not None and window <= teacher.max_output_tokens:
        cause = (f"{place} has a context window of {window} tokens, and teacher.max_output_tokens asks for "
                 f"{teacher.max_output_tokens}")
        return EndpointError(cause, "lower teacher.max_output_tokens")
    return ContextOverflow(f"{place} says that the conversation is too long: {hide_key(answer.message[:300], teacher)}")


def read_window(message: str) -> int | None:
    """The size of the context window that a message states, in tokens."""
    found = WINDOW.search(message)
    return int(found.group(1).replace(",", "")) if found else None


def hide_key(message: str, teacher: TeacherParams) -> str:
    """The message without the key, which some endpoints repeat."""
    return message.replace(os.environ.get(teacher.key_env, "").strip() or "\n", "…")


def may_pass(error: SynthkitError) -> bool:
    """Whether the same request may be answered later."""
    return isinstance(error, TransientEndpointError)


def read_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait before the next try, at most two minutes; None where it does not say."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            wait = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if wait >= 0:
            return min(wait, LONGEST_WAIT_S)
    try:
        until = parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(until - time.time(), 0.0), LONGEST_WAIT_S)
