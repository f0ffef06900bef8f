"""The scripted teacher behind OpenAI's chat completions API, on loopback.

It is a script, not a language model, and its model list says so. A request for one of the stages' forms, by its
response format or by a schema in its prompt, is answered from the library (`answers`). Any other is an agent's turn and
is answered by the policy (`policy`). Chance is drawn from seed and messages there, so the same request gets the same
text and the same usage.
"""

import hashlib
import json
import re
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from synthkit.offline.answers import UnknownTopic, answer_form

MODEL = "scripted-teacher"
MAX_BODY = 32 * 1024 * 1024
FORM_IN_TEXT = re.compile(r'"title": ?"(TopicBatch|DatasetProposal|TaskPlan|TaskCode|TaskSolution)"')


@dataclass
class RequestError(Exception):
    """A request without an answer, with what OpenAI's error form says about it."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None


class TeacherServer(ThreadingHTTPServer):
    """A threading server whose queue takes a burst of clients."""

    request_queue_size = 256
    daemon_threads = True


def open_teacher(port: int = 0) -> TeacherServer:
    """A bound server on loopback (port 0: any free one); `serve_forever` starts it. Its API lies under /v1."""
    return TeacherServer(("127.0.0.1", port), TeacherHandler)


class TeacherHandler(BaseHTTPRequestHandler):
    """GET /v1/models and POST /v1/chat/completions; everything else is an error in OpenAI's form."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    _headers_buffer: list[bytes]  # Of http.server, whose type stubs leave it out.

    def do_GET(self) -> None:
        """Answer with the list of models, or with its one model."""
        if self.path == "/v1/models":
            self.send_json(200, {"object": "list", "data": [describe_model()]})
        elif self.path == f"/v1/models/{MODEL}":
            self.send_json(200, describe_model())
        else:
            self.send_error_form(RequestError(404, f"Unknown request URL: GET {self.path}", "unknown_url"))

    def do_POST(self) -> None:
        """Answer with a chat completion, or with what is wrong with the request or with this server."""
        try:
            body = self.read_body()
            if self.path != "/v1/chat/completions":
                raise RequestError(404, f"Unknown request URL: POST {self.path}", "unknown_url")
            self.send_json(200, complete_chat(body))
        except RequestError as error:
            self.send_error_form(error)
        except Exception as error:  # A fault of ours; without a reply the client would wait for its timeout.
            self.send_error_form(RequestError(500, f"{type(error).__name__}: {error}", "server_error"))

    def read_body(self) -> bytes:
        """The request's body. Raises RequestError when its length is not given or too large."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            raise RequestError(413, f"The body needs a Content-Length of at most {MAX_BODY} bytes.")
        return self.rfile.read(int(length))

    def send_error_form(self, error: RequestError) -> None:
        """Send an error as OpenAI's clients read it."""
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        self.send_json(error.status, {"error": {
            "message": error.message, "type": kind, "param": error.param, "code": error.code}})

    def send_json(self, status: int, value: dict[str, Any]) -> None:
        """Headers and body in one send: two cost a delayed acknowledgement of 40 ms."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self._headers_buffer.append(b"\r\n" + body)
        self.flush_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the client's ledger has the requests."""


def describe_model() -> dict[str, Any]:
    """The one model in OpenAI's form; its owner says that it is a script."""
    return {"id": MODEL, "object": "model", "created": 0, "owned_by": "synthkit: a script, not a language model"}


def complete_chat(body: bytes) -> dict[str, Any]:
    """The chat completion for a request body. Raises RequestError."""
    request = read_request(body)
    messages = request["messages"]
    text = write_reply(messages, request.get("seed") or 0, find_form(request))
    tokens_in, tokens_out = sum(count_tokens(m["content"]) for m in messages), count_tokens(text)
    return {
        "id": "chatcmpl-" + hashlib.sha256(body).hexdigest()[:24],
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                     "message": {"role": "assistant", "content": text, "refusal": None}}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
    }


def write_reply(messages: list[dict[str, str]], seed: int, form: str | None) -> str:
    """The script's reply: a form as JSON or, without a form, an agent's turn.

    Raises RequestError for a topic or a form that the script does not know.
    """
    if form is None:
        from synthkit.offline.policy import next_action

        return next_action(messages, seed)
    try:
        return json.dumps(answer_form(form, messages, seed), ensure_ascii=False)
    except UnknownTopic as error:
        raise RequestError(400, str(error), "unknown_topic", "messages") from error


def count_tokens(text: str) -> int:
    """Bytes over four, rounded up: a count that depends on nothing but the text."""
    return (len(text.encode()) + 3) // 4


def read_request(body: bytes) -> dict[str, Any]:
    """The request as checked JSON, its messages flattened to text. Raises RequestError."""
    try:
        request = json.loads(body)
    except ValueError:
        raise RequestError(400, "The body of the request is not valid JSON.") from None
    if not isinstance(request, dict):
        raise RequestError(400, "The body of the request is not a JSON object.")
    if request.get("model") != MODEL:
        raise RequestError(404, f"The model {request.get('model')!r} does not exist; there is {MODEL!r}.",
                         "model_not_found", "model")
    if request.get("stream"):
        raise RequestError(400, "This server does not stream.", "unsupported_value", "stream")
    if request.get("n", 1) not in (1, None):
        raise RequestError(400, "This server gives one choice a request.", "unsupported_value", "n")
    if not isinstance(request.get("seed"), int | None):
        raise RequestError(400, "seed is not an integer.", "invalid_type", "seed")
    request["messages"] = read_messages(request.get("messages"))
    return request


def read_messages(messages: Any) -> list[dict[str, str]]:
    """Role and text of each message; text parts are joined. Raises RequestError."""
    if not isinstance(messages, list) or not messages:
        raise RequestError(400, "messages is missing or empty.", "missing_required_parameter", "messages")
    return [read_message(message, f"messages[{k}]") for k, message in enumerate(messages)]


def read_message(message: Any, place: str) -> dict[str, str]:
    """Role and text of one message; `place` is what an error calls it. Raises RequestError."""
    if not isinstance(message, dict) or message.get("role") not in ("system", "developer", "user", "assistant", "tool"):
        raise RequestError(400, f"{place} has no known role.", "invalid_value", f"{place}.role")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise RequestError(400, f"{place} has no text.", "invalid_type", f"{place}.content")
    return {"role": message["role"], "content": content}


def find_form(request: dict[str, Any]) -> str | None:
    """The name of the form that is asked for, from the response format or else the last schema in the prompt.

    None for an agent's turn. Raises RequestError for a response format that this server does not know.
    """
    response_format = request.get("response_format") or {}
    kind = response_format.get("type", "text") if isinstance(response_format, dict) else None
    if kind == "json_schema":
        name = (response_format.get("json_schema") or {}).get("name")
        if not isinstance(name, str):
            raise RequestError(400, "response_format.json_schema.name is missing.", "missing_required_parameter",
                             "response_format.json_schema.name")
        return name
    if kind not in ("text", "json_object"):
        raise RequestError(400, f"response_format.type {kind!r} is not known.", "invalid_value", "response_format.type")
    named = [name for m in request["messages"] for name in FORM_IN_TEXT.findall(m["content"])]
    if kind == "json_object" and not named:
        raise RequestError(400, "The messages name no form that this server knows.", "unknown_form", "messages")
    return named[-1] if named else None
