"""A teacher on loopback for tests: answers by a function of the messages, or fails as told, and notes each request."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[list[dict[str, str]]], Any]


@dataclass(frozen=True)
class Raw:
    """What the server itself sends instead of a reply: a fault, a page, a reply without usage; or nothing at all."""

    status: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False


@dataclass
class Teacher:
    """`asked` holds (form, messages) of every request in the order in which they came, `keys` what they were sent
    with, `bodies` all that was in them."""

    url: str
    asked: list[tuple[str, list[dict[str, str]]]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def params(self) -> dict[str, Any]:
        return {"model": "loopback", "base_url": self.url, "max_retries": 0}


def fail(status: int, code: str | None = None, message: str = "", param: str | None = None) -> Raw:
    """An error as OpenAI's API words it. The client is told to try again at once."""
    error = {"message": message or f"status {status}", "type": "error", "code": code, "param": param}
    return Raw(status, {"error": error}, {"Retry-After-Ms": "1", "Retry-After": "0"})


def in_turn(*answers: Any) -> Answer:
    """One answer after the other; the last one stays."""
    left, lock = list(answers), threading.Lock()

    def answer(messages: list[dict[str, str]]) -> Any:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return answer


def complete(text: str | None, tokens: tuple[int, int] | None = (1, 1),
             calls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A chat completion; `tokens` None leaves the usage out. `calls` are tool calls, see `call_tool`."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    usage = {"usage": dict(zip(names, (*tokens, sum(tokens)), strict=True))} if tokens else {}
    message = {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
    return {
        "id": "x", "object": "chat.completion", "created": 0, "model": "loopback",
        "choices": [{"index": 0, "finish_reason": "tool_calls" if calls else "stop", "message": message}],
        **usage,
    }


def call_tool(name: str, arguments: str) -> dict[str, Any]:
    """A call of a function as OpenAI's API words it: its arguments are a JSON text."""
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


@contextmanager
def serve_teacher(answers: dict[str, Answer]) -> Iterator[Teacher]:
    """Serve while the block runs. An agent's turn is form ''. A str answer is sent as it is, Raw in place of a reply,
    anything else as JSON."""
    teacher, closing = Teacher(""), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            form = request.get("response_format", {}).get("json_schema", {}).get("name", "")
            teacher.asked.append((form, request["messages"]))
            teacher.keys.append(self.headers["Authorization"].removeprefix("Bearer "))
            teacher.bodies.append(request)
            answer = answers[form](request["messages"])
            if not isinstance(answer, Raw):
                answer = Raw(body=complete(answer if isinstance(answer, str) else json.dumps(answer)))
            if answer.silent:
                closing.wait(600)
                self.close_connection = True
                return
            self.send(answer)

        def send(self, answer: Raw) -> None:
            page = isinstance(answer.body, str)
            body = (answer.body if page else json.dumps(answer.body)).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "text/html" if page else "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    teacher.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield teacher
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
