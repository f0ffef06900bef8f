"""A teacher on loopback for tests: answers each form by a function of its messages, and counts the requests."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[list[dict[str, str]]], Any]


@dataclass
class Teacher:
    """`asked` holds (form, messages) of every request, in the order in which they came."""

    url: str
    asked: list[tuple[str, list[dict[str, str]]]] = field(default_factory=list)

    @property
    def params(self) -> dict[str, Any]:
        return {"model": "loopback", "base_url": self.url, "max_retries": 0}


@contextmanager
def serve_teacher(answers: dict[str, Answer]) -> Iterator[Teacher]:
    """Serve while the block runs. A str answer is sent as it is, anything else as JSON; an agent's turn is form ''."""
    teacher = Teacher("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            form = request.get("response_format", {}).get("json_schema", {}).get("name", "")
            teacher.asked.append((form, request["messages"]))
            answer = answers[form](request["messages"])
            text = answer if isinstance(answer, str) else json.dumps(answer)
            body = json.dumps({
                "id": "x", "object": "chat.completion", "created": 0, "model": "loopback",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    teacher.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield teacher
    finally:
        server.shutdown()
        server.server_close()
