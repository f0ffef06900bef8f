"""Where code written by a model runs: a session with a shell and an editor, in a sandbox.

`bwrap` is the default, on Linux and without any rights; `podman` and `docker` run an image that a task needs; `process`
isolates nothing: for code that is trusted, or a machine that is itself a sandbox. The session is the same in all, and
so are the limits: for each process by the kernel, in sum by the guest (in_sandbox/guest_limits.py).

What a backend does not cover stands in the docstring of its module, under "Not covered:"; `synthkit doctor` shows it.
"""

import inspect
import json
import os
import re
import secrets
import select
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from synthkit.core.errors import SandboxDied, SandboxError
from synthkit.core.params import SandboxParams
from synthkit.core.text import CONTROLS
from synthkit.gym.sandbox.backends.bare import start_bare
from synthkit.gym.sandbox.backends.bwrap import start_bwrap
from synthkit.gym.sandbox.backends.containers import start_container
from synthkit.gym.sandbox.backends.launch import build_budget, build_limits, read_errors
from synthkit.gym.sandbox.backends.warm import Lease
from synthkit.gym.sandbox.folders import delete_folder, make_folder

# A guest that is not there is known by the end of its pipe: only one that hangs is given up after these, and on a busy
# machine no other may be. The grace is longer than what the guest takes at most to end an action.
START_TIMEOUT_S = 120.0
REPLY_GRACE_S = 60.0
EDITOR_TIMEOUT_S = 60.0
MAX_REPLY_BYTES = 16 << 20
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b.?")


@dataclass(frozen=True)
class Result:
    """What an action printed (stdout and stderr in one) and how it ended; `exit_code` is None when it was killed.

    `limit` is what it used too much of: memory, processes, cpu or disk; '' for nothing. The output says it too.
    """

    output: str
    exit_code: int | None
    timed_out: bool
    seconds: float
    limit: str = ""


class Reply(BaseModel):
    """A line of the guest. Untrusted: whatever runs in a sandbox can write one."""

    id: str
    output: str = ""
    exit_code: int | None = None
    timed_out: bool = False
    limit: str = ""
    cpu_s: float = 0.0
    folder: str
    open_file: str


BACKENDS = {"bwrap": start_bwrap, "process": start_bare, "podman": start_container, "docker": start_container}


class SessionLost(Exception):
    """The guest is gone, does not answer, or talks nonsense."""


class Sandbox:
    """A session on a workspace. A context manager; one thread at a time may use it, many can be open at once.

    A shell that exits, a command that overruns its time, and a session that breaks are outputs, not errors: the next
    action finds a new shell, and the files as they were. SandboxError is raised when no session can be started,
    SandboxDied when none can be started again.
    """

    def __init__(self, workspace: Path, params: SandboxParams):
        self.workspace = workspace.resolve()
        self.params = params
        self._stack = ExitStack()
        self._lease: Lease | None = None
        self._lost_cpu_s = 0.0

    def __enter__(self) -> "Sandbox":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the session, as `with` does. Raises SandboxError when its guest does not answer."""
        with ExitStack() as stack:
            tools = make_folder()
            stack.callback(delete_folder, tools)
            session = BACKENDS[self.params.backend](self.workspace, tools, self.params, stack)
            self._process, self._lease, self._buffer = session.process, session.lease, b""
            limits = {"limits": build_limits(self.params), "budget": build_budget(self.params),
                      "output_bytes": self.params.output_kb << 10}
            try:
                self._send(session.config | limits)
                self._state = self._receive(START_TIMEOUT_S)
            except SessionLost as lost:
                said = read_errors(session.errors) or lost
                raise SandboxError(f"the sandbox did not start: {said}", session.fix) from lost
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """End the session and every process in it, and delete its files but for the workspace."""
        self._stack.close()

    def run(self, command: str, timeout_s: float) -> Result:
        """Run shell text in the session's bash; stdin is empty. At the timeout all processes of the session end."""
        return self._act({"op": "run", "command": command, "timeout_s": timeout_s}, timeout_s)

    def call(self, name: str, args: list[str], text: str | None = None) -> Result:
        """Run an editor command; `text` is the new text of an edit or insert, None for any other.

        The names are open, goto, scroll_up, scroll_down, create, search_dir, search_file, find_file, edit, insert.
        """
        return self._act({"op": "call", "name": name, "args": args, "text": text}, EDITOR_TIMEOUT_S)

    def state(self) -> dict[str, str]:
        """MLGym's state after the last action: the open file ('n/a' for none) and the shell's folder."""
        return {"open_file": make_plain(self._state.open_file) or "n/a", "working_dir": make_plain(self._state.folder)}

    @property
    def cold_reason(self) -> str:
        """Why `python` starts a new interpreter here; '' when it forks the warm one. Waits until that has loaded."""
        return self._lease.refusal() if self._lease else "switched off by params.warm"

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the session up to the last action, in seconds; of one that broke, up to its last answer."""
        return self._lost_cpu_s + max(0.0, self._state.cpu_s)

    def _act(self, request: dict[str, Any], timeout_s: float) -> Result:
        started = time.monotonic()
        token = secrets.token_hex(8)
        try:
            self._send(request | {"id": token})
            reply = self._receive(timeout_s + REPLY_GRACE_S)
            if reply.id != token:
                raise SessionLost("an answer to another question")
        except SessionLost:
            self._lost_cpu_s = self.cpu_seconds
            self.stop()
            self._start_again()
            seconds = time.monotonic() - started
            note = "(the session broke and a new one was started; the files in the workspace are kept)"
            return Result(note, None, seconds >= timeout_s, seconds)
        self._state = reply
        return Result(make_plain(reply.output), reply.exit_code, reply.timed_out, time.monotonic() - started,
                      make_plain(reply.limit))

    def _start_again(self) -> None:
        try:
            self.start()
        except SandboxError as error:
            raise SandboxDied(f"the session broke, and {error.cause}", error.fix) from error

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        fd = self._process.stdin.fileno()
        deadline = time.monotonic() + REPLY_GRACE_S
        while data:
            if not select.select([], [fd], [], max(0.0, deadline - time.monotonic()))[1]:
                raise SessionLost("the guest does not listen")
            try:
                data = data[os.write(fd, data):]
            except OSError as error:
                raise SessionLost(str(error)) from error

    def _receive(self, timeout_s: float) -> Reply:
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        chunks = [self._buffer]
        size = len(self._buffer)
        while b"\n" not in chunks[-1]:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise SessionLost("the guest does not answer")
            chunks.append(os.read(fd, 1 << 16))
            size += len(chunks[-1])
            if not chunks[-1] or size > MAX_REPLY_BYTES:
                raise SessionLost("the guest has ended" if not chunks[-1] else "the guest says too much")
        line, _, self._buffer = b"".join(chunks).partition(b"\n")
        try:
            return Reply.model_validate_json(line)
        except ValidationError as error:
            raise SessionLost("the guest talks nonsense") from error


def open_sandbox(workspace: Path, params: SandboxParams) -> Sandbox:
    """A session on a workspace, to be used with `with`."""
    return Sandbox(workspace, params)


def make_plain(text: str) -> str:
    """Output as a person may see it: no terminal escapes, no control characters, redrawn lines in their last state."""
    text = ESCAPES.sub("", text.encode("utf-8", "replace").decode())
    # Line by line, for an agent chooses the text: no pattern here takes longer than its length.
    return CONTROLS.sub("", "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")))


def list_uncovered(backend: str) -> list[str]:
    """What a backend does not cover, from the docstring of its module: one sentence or two each."""
    listed = (inspect.getmodule(BACKENDS[backend]).__doc__ or "").partition("Not covered:\n")[2]
    return [" ".join(item.split()) for item in f"\n{listed}".split("\n- ")[1:]]
