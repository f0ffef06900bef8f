"""One chat client for every teacher: an OpenAI-compatible endpoint with retries, a reply cache, a budget, and forms.

Replies are cached by model, messages, options, sample and seed, so a resumed run pays for nothing twice.
A tool that the model calls in the API's own field is written into the reply's text, so one reader serves every model.
The key is read from the environment and appears nowhere else: not in records, nor in what errors say.
Tried against loopback servers that speak the protocol, faults included; not against a paid endpoint.
"""

import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlparse

from pydantic import BaseModel, ValidationError

from synthkit.core.endpoints import EMBEDDED, read_secret, resolve_endpoint
from synthkit.core.errors import EndpointError, ReplyError, SynthkitError, TransientEndpointError
from synthkit.core.ledger import Ledger, open_database
from synthkit.core.params import TeacherParams
from synthkit.core.records import explain_full_disk

if TYPE_CHECKING:
    from openai import OpenAI

M = TypeVar("M", bound=BaseModel)
Messages = list[dict[str, str]]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FENCED = re.compile(r"^\s*```(?:json)?\s*\n(.*)\n\s*```\s*$", re.DOTALL)
BYTES_PER_TOKEN = 4
REFUSED_PARAMETER = ("unsupported_parameter", "unsupported_value", "unknown_parameter")


@dataclass(frozen=True)
class Reply:
    """A model's reply with what it used, in tokens and USD; `cached` replies cost nothing again.

    Behind the text stand the tools that it called, each in the form of `write_tool_call`.
    """

    text: str
    tokens_in: int
    tokens_out: int
    usd: float
    cached: bool


class ChatClient:
    """The teacher of one stage. Safe for threads; opened once per stage. Raises EndpointError without a key."""

    def __init__(self, teacher: TeacherParams, run_dir: Path, stage: str):
        self.teacher, self.stage = teacher, stage
        self.base_url = resolve_endpoint("teacher", teacher.base_url)
        key = find_key(teacher, self.base_url)
        self.ledger = Ledger(run_dir, teacher.budget_usd)
        self.cache = ReplyCache(run_dir / "llm_cache.sqlite")
        self.slots = threading.BoundedSemaphore(teacher.concurrency)
        self.flights: dict[str, threading.Lock] = {}
        self.client = self._open_client(key)

    def _open_client(self, key: str) -> "OpenAI":
        from openai import OpenAI

        teacher = self.teacher
        return OpenAI(base_url=self.base_url, api_key=key, timeout=teacher.timeout_s, max_retries=teacher.max_retries)

    def chat(self, messages: Messages, *, sample: int = 0, seed: int | None = None, cache: bool = True,
             tools: list[dict[str, Any]] | None = None) -> Reply:
        """One reply in free text. `sample` tells repeated requests apart; `seed` is sent when the teacher takes one.

        `tools` are offered to the model in OpenAI's form, as the gym's `list_tools` gives them.
        """
        return self._request(messages, {"tools": tools}, sample, seed, cache)

    def ask(
        self, messages: Messages, form: type[M], *, sample: int = 0, seed: int | None = None
    ) -> tuple[M, list[Reply]]:
        """A reply as a filled-in form. A reply that does not fit is sent back once with the fault, then ReplyError."""
        options = {"response_format": describe_form(form, self.teacher.structured)}
        if self.teacher.structured != "json_schema":
            messages = [*messages, {"role": "user", "content": write_schema(form)}]
        first = self._request(messages, options, sample, seed, True)
        try:
            return read_form(first.text, form), [first]
        except ValidationError as error:
            fault = describe_fault(error)
        again = [
            *messages, {"role": "assistant", "content": first.text},
            {"role": "user", "content": f"That does not fit the form: {fault}. Send the whole JSON object again."},
        ]
        second = self._request(again, options, sample, seed, True)
        try:
            return read_form(second.text, form), [first, second]
        except ValidationError as error:
            raise ReplyError(f"no {form.__name__} after one repair: {describe_fault(error)}") from error

    def _request(
        self, messages: Messages, options: dict[str, Any], sample: int, seed: int | None, cache: bool
    ) -> Reply:
        request = self._build_request(messages, options, seed)
        if not cache:
            with self.slots:
                return self._pay_and_send(request)
        key = hash_request(request, sample, seed)
        # Of two threads with the same request one asks and pays, the other waits for its reply.
        with self.flights.setdefault(key, threading.Lock()):
            if known := self.cache.get(key):
                return known
            with self.slots:
                reply = self._pay_and_send(request)
            self.cache.put(key, reply)
            return reply

    def _build_request(self, messages: Messages, options: dict[str, Any], seed: int | None) -> dict[str, Any]:
        teacher = self.teacher
        request = {
            "model": teacher.model, "messages": messages, "max_completion_tokens": teacher.max_output_tokens,
            "temperature": teacher.temperature, "seed": seed if teacher.send_seed else None, **options,
        }
        return {name: value for name, value in request.items() if value is not None}

    def _pay_and_send(self, request: dict[str, Any]) -> Reply:
        size = len(json.dumps(request, ensure_ascii=False).encode())
        most = self.price(size, self.teacher.max_output_tokens)
        reservation = self.ledger.reserve(self.stage, most)
        try:
            text, why, usage = read_answer(self._send(request))
        except BaseException as error:
            self._give_up(reservation, error, size, most)
        tokens_in, tokens_out = usage or (size // BYTES_PER_TOKEN, len(text.encode()) // BYTES_PER_TOKEN)
        usd = self.price(tokens_in, tokens_out)
        self.ledger.settle(reservation, tokens_in, tokens_out, usd, estimated=usage is None)
        if not text:
            raise ReplyError(f"{self.teacher.model} gave an empty reply ({why})")
        return Reply(text, tokens_in, tokens_out, usd, cached=False)

    def _send(self, request: dict[str, Any]) -> Any:
        """The chat completion. `chat.completions.create` would first walk through every message, for milliseconds."""
        from openai.types.chat import ChatCompletion

        return self.client.post("/chat/completions", body=request, cast_to=ChatCompletion)

    def _give_up(self, reservation: int, error: BaseException, size: int, most: float) -> NoReturn:
        """Take the reservation back and raise the error as one of ours.

        A request that timed out may have been worked on and billed, so it counts with all it could cost.
        """
        import openai

        if isinstance(error, openai.APITimeoutError) and most > 0:
            self.ledger.settle(reservation, size // BYTES_PER_TOKEN, 0, most, estimated=True)
        else:
            self.ledger.release(reservation)
        explained = self._explain(error)
        if explained is error:
            raise error
        # Without the client's own error: its text may repeat the key, and notebooks store tracebacks.
        raise explained from None

    def price(self, tokens_in: int, tokens_out: int) -> float:
        """USD at the list price of the parameters."""
        return (tokens_in * self.teacher.usd_per_mtok_in + tokens_out * self.teacher.usd_per_mtok_out) / 1e6

    def _explain(self, error: BaseException) -> BaseException:
        """A client error as one of ours, with cause and fix; anything else as it is."""
        import openai

        place = f"the teacher at {self.base_url}"
        if isinstance(error, openai.APITimeoutError):
            cause = f"{place} did not answer within {self.teacher.timeout_s:g} s"
            return TransientEndpointError(cause, "start again later, or raise teacher.timeout_s")
        if isinstance(error, openai.APIConnectionError):
            return EndpointError(f"{place} cannot be reached", "check teacher.base_url and the network, start again")
        if isinstance(error, openai.APIStatusError):
            return explain_status(place, error, self.teacher)
        if isinstance(error, NotAnAnswer | openai.APIResponseValidationError | json.JSONDecodeError):
            return EndpointError(f"{place} does not speak the OpenAI chat API", "correct teacher.base_url")
        return error


class ReplyCache:
    """Replies on disk by the hash of their request."""

    def __init__(self, path: Path):
        self.path, self.local = path, threading.local()
        columns = "key TEXT PRIMARY KEY, text TEXT, tokens_in INTEGER, tokens_out INTEGER"
        with explain_full_disk(path):
            self.connection().execute(f"CREATE TABLE IF NOT EXISTS replies ({columns})")

    def connection(self) -> Any:
        if not hasattr(self.local, "db"):
            self.local.db = open_database(self.path)
        return self.local.db

    def get(self, key: str) -> Reply | None:
        with explain_full_disk(self.path):
            found = self.connection().execute("SELECT text, tokens_in, tokens_out FROM replies WHERE key = ?", (key,))
            row = found.fetchone()
        return Reply(row[0], row[1], row[2], 0.0, cached=True) if row else None

    def put(self, key: str, reply: Reply) -> None:
        row = (key, reply.text, reply.tokens_in, reply.tokens_out)
        with explain_full_disk(self.path):
            self.connection().execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", row)


class NotAnAnswer(Exception):
    """What came back with status 200 is no chat completion: a proxy's page, another service."""


def read_answer(answer: Any) -> tuple[str, str, tuple[int, int] | None]:
    """Text, reason why it ended, and (tokens in, tokens out) where the endpoint counts them."""
    if not hasattr(answer, "choices"):
        raise NotAnAnswer
    usage = answer.usage
    counts = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
    known = counts if all(isinstance(count, int) for count in counts) else None
    if not answer.choices:
        return "", "no choice", known
    choice = answer.choices[0]
    return read_message(choice.message), str(choice.finish_reason), known


def read_message(message: Any) -> str:
    """The text of an assistant's message, and behind it the tools that it calls."""
    calls = [read_tool_call(call) for call in message.tool_calls or []]
    text = "\n".join([part for part in (message.content,) if part] + calls)
    # Half a surrogate pair, which JSON can hold, could be neither cached nor recorded.
    return text.encode("utf-8", "replace").decode()


def read_tool_call(call: Any) -> str:
    """A call as text; arguments that are not JSON stay the string that they are, and a custom tool has its input."""
    function = getattr(call, "function", None)
    if not function:
        return write_tool_call(call.custom.name, call.custom.input)
    try:
        return write_tool_call(function.name, json.loads(function.arguments))
    except (ValueError, RecursionError):
        return write_tool_call(function.name, function.arguments)


def write_tool_call(name: str, arguments: Any) -> str:
    """A call of a tool in the text form of Qwen3 and Hermes models."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def find_key(teacher: TeacherParams, base_url: str) -> str:
    """The key from the environment; an endpoint on this machine needs none. Raises EndpointError."""
    key = read_secret(teacher.key_env)
    if key and teacher.base_url != EMBEDDED:
        return key
    if urlparse(base_url).hostname in LOOPBACK:
        return "none"
    raise EndpointError(f"no key for the teacher at {base_url}", f"export {teacher.key_env}=… before you start")


def hash_request(request: dict[str, Any], sample: int, seed: int | None) -> str:
    return hashlib.sha256(json.dumps([request, sample, seed], sort_keys=True).encode()).hexdigest()


@cache
def describe_form(form: type[BaseModel], structured: str) -> dict[str, Any] | None:
    """The response_format for a form, as strict as the teacher's endpoint allows."""
    if structured == "text":
        return None
    if structured == "json_object":
        return {"type": "json_object"}
    from openai.lib._pydantic import to_strict_json_schema

    schema = {"name": form.__name__, "schema": to_strict_json_schema(form), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


@cache
def write_schema(form: type[BaseModel]) -> str:
    return "Answer with one JSON object of this schema and nothing else:\n" + json.dumps(form.model_json_schema())


def read_form(text: str, form: type[M]) -> M:
    """A form from a reply that is JSON, with or without a code fence. Raises pydantic's ValidationError."""
    fenced = FENCED.match(text)
    return form.model_validate_json(fenced.group(1) if fenced else text)


def describe_fault(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the reply'}: {e['msg']}" for e in error.errors()[:5])


def explain_status(place: str, error: Any, teacher: TeacherParams) -> SynthkitError:
    """An answer that is an error: what a person must act on, what may pass, and what this request alone caused."""
    status, code = error.status_code, getattr(error, "code", None)
    if status in (401, 403):
        return EndpointError(f"{place} refused the key", f"set {teacher.key_env} to a key that may use it")
    if status == 404 or code == "model_not_found":
        return EndpointError(f"{place} has no model {teacher.model!r}", "correct teacher.model or teacher.base_url")
    if status == 402 or code == "insufficient_quota":
        return EndpointError(f"{place} says that the account has no credit left", "add credit, then start again")
    if status >= 500 or status in (408, 409, 429):
        return TransientEndpointError(f"{place} answered {status} {teacher.max_retries + 1} times",
                                      "start again later, or lower teacher.concurrency")
    message = (str(error.message).splitlines() or [""])[0][:300]
    message = message.replace(os.environ.get(teacher.key_env) or "\n", "…")
    if code in REFUSED_PARAMETER or getattr(error, "param", None) not in (None, "messages"):
        return EndpointError(f"{place} refuses a parameter: {message}", "set it to null in the section teacher")
    return ReplyError(f"{place} refused the request: {message}")
