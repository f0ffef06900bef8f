"""Where the services are: a URL as given, or the embedded Hub and scripted teacher, started on demand.

The embedded endpoints are one child process, `python -m synthkit.offline`. It says on its first line
where it listens and ends when its standard input closes, so it cannot outlive this process.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import httpx2

from synthkit.core.errors import EndpointError
from synthkit.core.paths import cache_dir

EMBEDDED = "embedded"
_lock = threading.Lock()
_embedded: "Embedded | None" = None


@dataclass(frozen=True)
class Embedded:
    """The child process, and the base URL of each of its services."""

    process: "subprocess.Popen[str]"
    urls: dict[str, str]


def resolve_endpoint(kind: Literal["teacher", "hub"], url: str) -> str:
    """The base URL of a service. Raises EndpointError when the embedded ones cannot be started."""
    if url != EMBEDDED:
        return url.rstrip("/")
    global _embedded
    with _lock:
        if _embedded is None or _embedded.process.poll() is not None:
            _embedded = start_embedded()
        return _embedded.urls[kind]


def start_embedded() -> Embedded:
    """A new child process with both embedded services; it ends with this one. Raises EndpointError."""
    # A session of its own: an interrupt meant for a notebook's kernel must not end the services that it calls.
    process = subprocess.Popen(
        [sys.executable, "-m", "synthkit.offline"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    atexit.register(stop_embedded, process)
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    try:
        urls = json.loads(line)
    except ValueError as error:
        process.kill()
        tail = process.stderr.read().strip().splitlines()[-1:] or ["it said nothing"]
        raise EndpointError(f"the embedded endpoints did not start: {tail[0]}", "run `synthkit doctor`") from error
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return Embedded(process, urls)


def stop_embedded(process: "subprocess.Popen[str]") -> None:
    """Ask the services to end by closing their input, and kill them after five seconds."""
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()


def check_server(what: str, url: str) -> None:
    """Raises EndpointError when nothing answers at the base URL of an OpenAI-compatible API; any answer will do."""
    try:
        httpx2.get(f"{url.rstrip('/')}/models", timeout=5)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise EndpointError(f"{what} at {url} cannot be reached ({type(error).__name__})",
                            "start it, or correct its base_url") from error


def read_secret(name: str) -> str:
    """A key or token from the environment, empty when there is none.

    Raises EndpointError for one that no HTTP header can hold: the client's own error would show it.
    """
    secret = os.environ.get(name, "").strip()
    if not (secret.isascii() and secret.isprintable()):
        raise EndpointError(f"{name} holds characters that no key has", "copy the key again and export it anew")
    return secret


@cache
def embedded_benchmark() -> Path:
    """The root of the embedded held-out benchmark, exported at first use. Raises EndpointError."""
    folder = cache_dir() / "benchmark"
    done = subprocess.run(
        [sys.executable, "-m", "synthkit.offline", "--export-benchmark", str(folder)], capture_output=True, text=True
    )
    try:
        return Path(json.loads(done.stdout.strip().splitlines()[-1])["benchmark"])
    except (ValueError, IndexError, KeyError) as error:
        tail = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise EndpointError(f"the embedded benchmark was not exported: {tail[0]}", "run `synthkit doctor`") from error
