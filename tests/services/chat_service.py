"""A strict chat service on loopback that words its refusals as one of six servers does, and keeps a bill of its own.

It enforces a context window and a rule for the token limit, refuses unknown fields where the named server does, and
counts every request by what it holds. A reply that it produced stands on the bill, whether it was delivered or not.
"""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from services.dialects import FIELDS, Refusal, refuse_filtered, refuse_length, refuse_limit, refuse_unknown

Delivery = Literal["whole", "late", "cut", "drop", "drip"]
TRUE_USAGE: Any = object()


@dataclass(frozen=True)
class Turn:
    """What the service does with one request.

    A reply of `content`, with `message` laid over it and `usage` in place of the true one, is produced, billed and
    delivered: `whole`; `late`, after the client has left; `cut` in the middle of its body; `drop`, the connection is
    closed before the status line; `drip`, a byte at a time. With `refusal` (status, body, headers) nothing is
    produced. `filtered`: the prompt is stopped as a content filter does it.
    """

    content: Any = "fine"
    finish: str = "stop"
    tokens_out: int = 5
    message: dict[str, Any] = field(default_factory=dict)
    usage: Any = TRUE_USAGE
    delivery: Delivery = "whole"
    refusal: tuple[int, Any, dict[str, str]] | None = None
    filtered: bool = False


Answer = Callable[[int, dict[str, Any]], Turn]


@dataclass
class ChatService:
    """A service that runs. `requests` holds all bodies, `counts` how often each came, `bill` USD for all replies."""

    dialect: str = "openai"
    window: int = 100_000
    output_limit: int = 16_384
    usd_per_mtok: tuple[float, float] = (0.0, 0.0)
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    produced: int = 0
    bill: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def params(self) -> dict[str, Any]:
        """The section `teacher` for this service."""
        return {"model": "served", "base_url": self.url, "max_retries": 0, "usd_per_mtok_in": self.usd_per_mtok[0],
                "usd_per_mtok_out": self.usd_per_mtok[1]}

    def note(self, request: dict[str, Any]) -> int:
        """Count a request; the number that it has among all."""
        content = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        with self.lock:
            self.requests.append(request)
            self.counts[content] += 1
            return len(self.requests) - 1

    def refuse(self, request: dict[str, Any], turn: Turn) -> Refusal | None:
        """What is wrong with a request in the words of the dialect; None where it is taken."""
        if turn.filtered:
            return refuse_filtered(self.dialect)
        if unknown := sorted(set(request) - FIELDS):
            if refusal := refuse_unknown(self.dialect, unknown[0]):
                return refusal
        limit = request.get("max_completion_tokens", 16)
        return (refuse_limit(self.dialect, limit, self.window, self.output_limit)
                or refuse_length(self.dialect, count_tokens(request["messages"]), limit, self.window))

    def produce(self, request: dict[str, Any], turn: Turn) -> dict[str, Any]:
        """A chat completion, which stands on the bill from now on."""
        tokens_in = count_tokens(request["messages"])
        tokens_out = min(turn.tokens_out, request.get("max_completion_tokens", 16))
        with self.lock:
            self.produced += 1
            self.bill += (tokens_in * self.usd_per_mtok[0] + tokens_out * self.usd_per_mtok[1]) / 1e6
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        message = {"role": "assistant", "content": turn.content} | turn.message
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": request["model"],
                "choices": [{"index": 0, "finish_reason": turn.finish, "message": message}]}
        return body | ({"usage": usage} if turn.usage is TRUE_USAGE else {"usage": turn.usage})


def count_tokens(messages: list[dict[str, Any]]) -> int:
    """Three bytes a token, and four tokens around each message."""
    return sum(len(str(message["content"]).encode()) // 3 + 4 for message in messages)


@contextmanager
def serve_chat(answer: Answer | Turn | None = None, **values: Any) -> Iterator[ChatService]:
    """Run a service while the block lasts. `answer` says by number and body what is done with a request."""
    service = ChatService(**values)
    decide = answer if callable(answer) else lambda number, request: answer or Turn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            turn = decide(service.note(request), request)
            refusal = turn.refusal or service.refuse(request, turn)
            if refusal:
                self.reply(*refusal)
            else:
                self.deliver(service.produce(request, turn), turn.delivery)

        def deliver(self, body: dict[str, Any], delivery: Delivery) -> None:
            if delivery == "whole":
                return self.reply(200, body, {})
            self.close_connection = True
            content = json.dumps(body).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content)
            if delivery == "late":
                service.closing.wait(600)
            elif delivery == "cut":
                self.wfile.write(head + content[:len(content) // 2])
            elif delivery == "drip":
                self.wfile.write(head)
                for number in content:
                    self.wfile.write(bytes([number]))
                    if service.closing.wait(0.05):
                        return

        def reply(self, status: int, body: Any, headers: dict[str, str]) -> None:
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        service.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield service
        finally:
            service.closing.set()
            server.shutdown()
