"""A proxy on loopback in front of the scripted teacher: counts what is asked and answered, and fails as it is told."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2

from synthkit.core.endpoints import start_embedded, stop_embedded
from synthkit.offline.teacher_server import MODEL


@dataclass
class Proxy:
    """`received` counts every request by its body, `answered` those whose reply was sent as a whole.

    `fail` is asked before each request whether it is answered with a status of its own; it may be replaced meanwhile.
    `reply_s` is how long a reply takes, so that there are always some under way.
    """

    url: str
    received: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    reply_s: float = 0.0
    fail: Callable[[dict[str, Any]], int | None] = lambda body: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count_repeats(self) -> int:
        """How many requests were sent again after a whole reply to the same request."""
        return sum(self.answered.values()) - len(self.answered)


@contextmanager
def serve_proxy(reply_s: float = 0.0) -> Iterator[Proxy]:
    """A scripted teacher behind a proxy, while the block runs."""
    embedded = start_embedded()
    client = httpx2.Client(timeout=300, limits=httpx2.Limits(max_connections=64))
    proxy, idle = Proxy("", reply_s=reply_s), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.reply(200, client.get(embedded.urls["teacher"] + self.path.removeprefix("/v1")).content)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = json.loads(body)
            status = proxy.fail(request)
            if status is not None:
                self.reply(status, b'{"error": {"message": "busy", "type": "server_error"}}')
                return
            key = json.dumps(request, sort_keys=True)
            with proxy.lock:
                proxy.received[key] += 1
            # Whatever it is to be: base and student, where they are served, are the scripted teacher too.
            answer = client.post(embedded.urls["teacher"] + "/chat/completions", json=request | {"model": MODEL})
            idle.wait(proxy.reply_s)
            self.reply(answer.status_code, answer.content)
            with proxy.lock:
                proxy.answered[key] += 1

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body))),
                                ("Retry-After-Ms", "1"), ("Retry-After", "0")):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True  # Whoever asked was killed.

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    proxy.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        client.close()
        stop_embedded(embedded.process)
