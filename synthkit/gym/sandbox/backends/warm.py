"""Warm Python: one interpreter per kit process with the libraries loaded, which sandboxes fork their runs from.

Importing pandas and scikit-learn costs a script more than a second, its own work often less than a tenth of that.
`lease_warm` offers the interpreter to a sandbox over a unix socket; `zygote.py` is the interpreter, `shim.py` what
calls it. Linux only: a child enters the sandbox with setns, for which the kernel wants no rights beyond those of the
user who made the sandbox. Where it refuses, or the interpreter died, runs are cold and the lease says so.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from synthkit.gym.sandbox.backends.seccomp import build_filter
from synthkit.gym.sandbox.backends.session_files import compile_modules
from synthkit.gym.sandbox.folders import make_folder
from synthkit.gym.sandbox.in_sandbox.shim import ENVIRONMENT

START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 5

_lock = threading.Lock()
_zygotes: dict[tuple[int, tuple[str, ...]], "Zygote"] = {}


class Zygote:
    """The interpreter's process. It ends when this end of the control socket closes, be it by a crash."""

    def __init__(self, modules: tuple[str, ...]):
        self.control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Run from a copy, which it deletes: programs can read its command line, and that names no path of the kit.
        folder = make_folder()
        for name, code in compile_modules("zygote", "program").items():
            (folder / name).write_bytes(code)
        with other:
            self.process = subprocess.Popen(
                [sys.executable, str(folder / "zygote.pyc"), str(other.fileno()), json.dumps(modules)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                env=ENVIRONMENT, pass_fds=[other.fileno()], start_new_session=True,
            )

    def is_alive(self) -> bool:
        """Whether the interpreter's process still runs; one that runs may still be loading."""
        return self.process.poll() is None

    def register(self, listener: socket.socket, lifeline: socket.socket, namespace: int | None,
                 limits: dict[str, int], steps: bytes) -> None:
        """Hand a sandbox over: its socket, its lifeline, a pidfd in its namespaces, its limits and its filter.

        An interpreter that has ended is no error here; the sandbox's lease then tells it.
        """
        fds = [listener.fileno(), lifeline.fileno(), *([] if namespace is None else [namespace])]
        # An interpreter that has just died takes the sandbox's end of the lifeline with it: its lease then says so.
        with suppress(OSError):
            terms = {"limits": limits, "filter": steps.hex()}
            socket.send_fds(self.control, [json.dumps(terms).encode()], fds)

    def stop(self) -> None:
        """Close the interpreter's control socket and wait for it to end; kill it after STOP_TIMEOUT_S."""
        self.control.close()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Lease:
    """A sandbox's claim on the warm interpreter; `close` ends it, and every run that it has started."""

    def __init__(self, lifeline: socket.socket):
        self._lifeline = lifeline
        self._refusal: str | None = None

    def refusal(self) -> str:
        """Why this sandbox's runs are cold; '' when they are warm. Waits until the interpreter has loaded."""
        if self._refusal is None:
            self._lifeline.settimeout(START_TIMEOUT_S)
            try:
                answer = self._lifeline.recv(65536)
                self._refusal = json.loads(answer)["refusal"] if answer else "the warm interpreter ended"
            except OSError as error:
                self._refusal = f"the warm interpreter does not answer: {error}"
        return self._refusal

    def close(self) -> None:
        """End the claim, and with it every run that the sandbox has started there."""
        self._lifeline.close()


def lease_warm(address: Path, modules: list[str], limits: dict[str, int], namespace: int | None) -> Lease:
    """Offer the warm interpreter at a socket path, starting it if there is none with these modules.

    `namespace` is a pidfd of a process in the sandbox, None when runs are not isolated. Returns at once: the first
    run waits until the modules are loaded. Raises OSError when no process can be started.
    """
    lifeline, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other, socket.socket(socket.AF_UNIX) as listener:
        bind_socket(listener, address)
        listener.listen(64)
        steps = b"" if namespace is None else build_filter()
        find_zygote(tuple(modules)).register(listener, other, namespace, limits, steps)
    return Lease(lifeline)


def bind_socket(listener: socket.socket, address: Path) -> None:
    """Bind a unix socket to a path of any length."""
    # A socket's address has room for 107 bytes; temporary folders can be longer.
    folder = os.open(address.parent, os.O_PATH)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{address.name}")
    finally:
        os.close(folder)


def find_zygote(modules: tuple[str, ...]) -> Zygote:
    """This process's interpreter with these modules loaded; started when there is none, or when it has died."""
    # A fork of the kit gets an interpreter of its own: two processes cannot share one control socket.
    key = (os.getpid(), modules)
    with _lock:
        if key not in _zygotes or not _zygotes[key].is_alive():
            _zygotes[key] = Zygote(modules)
        return _zygotes[key]


@atexit.register
def stop_zygotes() -> None:
    """End the interpreters of this process; a later lease starts one anew."""
    with _lock:
        mine = [key for key in _zygotes if key[0] == os.getpid()]
        for key in mine:
            _zygotes.pop(key).stop()
