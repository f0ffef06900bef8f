"""One request over HTTP: its answer as JSON, or a Failure that says what the request may have cost.

The SDK's own retries are off, since each of its tries would have to be paid for unseen; so is its reading of replies.
An answer as a whole has a deadline and a greatest size: the timeout of the HTTP library is for each piece that comes.
"""

import json
import time
from typing import Any

import httpx2

from synthkit.core.endpoints import EMBEDDED, read_secret
from synthkit.core.errors import EndpointError, SynthkitError, TransientEndpointError
from synthkit.core.llm.faults import Failure, explain_answer, may_pass, read_answer, read_wait
from synthkit.core.llm.prices import is_loopback
from synthkit.core.params import TeacherParams

LARGEST_ANSWER = 32 << 20  # bytes; a reply of 128K tokens has about half a MB
# What an answer's headers say of its transport, which the bytes that were read no longer have.
TRANSPORT = ("content-encoding", "content-length", "transfer-encoding")
# Faults before anything was sent. All others may come after the request has reached the server.
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError,
          httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.TooManyRedirects)


class BoundedClient(httpx2.Client):
    """An HTTP client whose answers are whole when it returns, within a time and a size; longer ones are cut off."""

    def __init__(self, timeout_s: float, connections: int):
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        super().__init__(timeout=timeout_s, limits=limits, follow_redirects=True)
        self.timeout_s = timeout_s

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send and read to the end. Raises ReadTimeout when that takes longer than the timeout.

        The clock is looked at when a piece of the body has come, so one that drips ends at the latest after twice the
        timeout; headers that drip are bounded by the HTTP library alone.
        """
        deadline = time.monotonic() + self.timeout_s
        response = super().send(request, **options | {"stream": True})
        body = bytearray()
        try:
            for piece in response.iter_bytes():
                body += piece
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("the answer took too long", request=request)
                if len(body) > LARGEST_ANSWER:
                    break
        finally:
            response.close()
        del body[LARGEST_ANSWER:]
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in TRANSPORT]
        return httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=response.request)


class ChatEndpoint:
    """The chat completions of one base URL; safe for threads. Raises EndpointError without a key."""

    def __init__(self, teacher: TeacherParams, base_url: str):
        from openai import OpenAI

        self.teacher, self.place, self.spoke = teacher, f"the teacher at {base_url}", False
        self.client = OpenAI(base_url=base_url, api_key=find_key(teacher, base_url), timeout=teacher.timeout_s,
                             max_retries=0, http_client=BoundedClient(teacher.timeout_s, teacher.concurrency))

    def post(self, request: dict[str, Any]) -> Any:
        """The JSON of the answer. Raises Failure."""
        try:
            # `chat.completions.create` would first walk through every message, for milliseconds.
            response = self.client.post("/chat/completions", body=request, cast_to=httpx2.Response)
        except Exception as error:
            failure = self._explain(error)
            if failure is None:
                raise
        else:
            return self._read(response)
        # Outside the handler, without the client's own error: its text may repeat the key.
        raise failure

    def _explain(self, error: Exception) -> Failure | None:
        """An error of the SDK as a Failure; None for what is no error of the SDK."""
        import openai

        if isinstance(error, openai.APIStatusError):
            answer = read_answer(error.status_code, error.response.content)
            explained, wait_s = explain_answer(self.place, answer, self.teacher), read_wait(error.response.headers)
            charged = is_late(error.status_code)
            return Failure(explained, charged=charged, again=may_pass(explained), wait_s=wait_s)
        if not isinstance(error, openai.APIConnectionError):
            return None
        if isinstance(error.__cause__, UNSENT):
            cause, fix = f"{self.place} cannot be reached", "check teacher.base_url and the network, start again"
            return Failure(EndpointError(cause, fix), charged=False, again=True)
        return Failure(self._explain_break(error), charged=True, again=True)

    def _explain_break(self, error: Exception) -> SynthkitError:
        """A connection that broke after it was made: whether in time, and what to do."""
        import openai

        if isinstance(error, openai.APITimeoutError):
            cause = f"{self.place} did not answer within {self.teacher.timeout_s:g} s"
            return TransientEndpointError(cause, "start again later, or raise teacher.timeout_s")
        cause = f"{self.place} cut the connection before its reply was whole"
        return TransientEndpointError(cause, "start again later")

    def _read(self, response: httpx2.Response) -> Any:
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError):
            raise self.refuse() from None

    def refuse(self, answer: Any = None) -> Failure:
        """The Failure for an answer with status 200 that is no completion; it may have been billed all the same.

        OpenRouter answers so when the provider behind it fails: the true status is the error's code.
        """
        error = answer.get("error") if isinstance(answer, dict) else None
        status = error.get("code") if isinstance(error, dict) else None
        if isinstance(status, int) and 400 <= status < 600:
            explained = explain_answer(self.place, read_answer(status, json.dumps(answer).encode()), self.teacher)
            return Failure(explained, charged=True, again=may_pass(explained))
        if self.spoke:  # It does speak the chat API: this answer was spoilt on its way.
            spoilt = TransientEndpointError(f"{self.place} sent an answer that is none", "start again later")
            return Failure(spoilt, charged=True, again=True)
        wrong = EndpointError(f"{self.place} does not speak the OpenAI chat API", "correct teacher.base_url")
        return Failure(wrong, charged=True)


def is_late(status: int) -> bool:
    """Whether a gateway says that what stands behind it was too slow: it may have worked, and billed, all the same.

    Any other error is taken as unbilled, which is how the known endpoints do it.
    """
    return status in (408, 499, 502, 504) or 520 <= status <= 527


def find_key(teacher: TeacherParams, base_url: str) -> str:
    """The key from the environment; an endpoint on this machine needs none. Raises EndpointError."""
    key = read_secret(teacher.key_env)
    if key and teacher.base_url != EMBEDDED:
        return key
    if is_loopback(base_url):
        return "none"
    raise EndpointError(f"no key for the teacher at {base_url}", f"export {teacher.key_env}=… before you start")


def name_place(teacher: TeacherParams) -> str:
    """Where requests go, as configured: `embedded`, never the port that is drawn for it."""
    return teacher.base_url.rstrip("/")
