"""The bash of a session: it lives on from action to action, and is started again when one ends it or must be stopped.

Runs beside guest.py, inside; only the standard library. Whatever stops an action, the next shell has the folder; and
after a timeout or a limit also the variables, functions and options of the one before, as far as that could tell them.
"""

import contextlib
import fcntl
import os
import re
import resource
import select
import shlex
import signal
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    # Side by side in a sandbox, a package for the type checker.
    from synthkit.gym.sandbox.in_sandbox.guest_limits import make_watch
    from synthkit.gym.sandbox.in_sandbox.guest_processes import (
        await_end,
        freeze_all,
        kill_all,
        kill_others,
        read_folder,
        reap,
        set_limit,
        signal_one,
    )
else:
    from guest_limits import make_watch
    from guest_processes import await_end, freeze_all, kill_all, kill_others, read_folder, reap, set_limit, signal_one

COMMAND_FD = 63
STATUS_FD = 62
DRAIN_BYTES = 1 << 20
MAX_STATE_BYTES = 1 << 20
# Only a shell that cannot answer takes so long, not a busy machine.
STATE_TIMEOUT_S = 5.0
LEAVE = re.compile(r"exit(?:\s+(\d{1,9}))?")
ENDED = "(the shell ended with exit code {}; a new one was started)"
STATE_END = b"# all of it\n"

# Each command is evaluated in the shell itself, so folder, variables and functions last. It gets no stdin and does not
# hold the two pipes, so it can neither swallow the next command nor keep the shell's end from being noticed.
# One line, so that an error in a command's first line is reported as bash would: "line 1".
LOOP = r"""
_status() { return "$1"; }; _rc=0; while IFS= builtin read -r -d '' -u 63 _command; do _status "$_rc";
builtin eval "$_command" </dev/null 62>&- 63<&-; _rc=$?; builtin printf '%s\0%s\0' "$_rc" "$PWD" >&62; done
""".replace("\n", " ")
# What the shell does last, when a signal that no program uses tells it to: so no action pays for it.
FAREWELL = ("builtin trap - EXIT; {{ builtin declare -p; builtin declare -f; builtin shopt -p; builtin set +o; "
            "builtin echo '# all of it'; }} >{path} 2>/dev/null; builtin exit")


class Output:
    """The first and the last bytes of what a command prints, and how many between them were dropped."""

    def __init__(self, limit: int):
        self.half = limit // 2
        self.head = bytearray()
        self.tail = bytearray()
        self.dropped = 0

    def add(self, data: bytes) -> None:
        """Take in what was printed next."""
        room = self.half - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        extra = len(self.tail) - self.half
        # Cut in large steps: cutting at every read would copy the tail each time.
        if extra > self.half:
            del self.tail[:extra]
            self.dropped += extra

    def text(self) -> str:
        """What is kept, with a line in the gap that counts the bytes that were dropped."""
        extra = max(0, len(self.tail) - self.half)
        dropped = self.dropped + extra
        if not dropped:
            return (self.head + self.tail).decode("utf-8", "replace")
        head, tail = self.head.decode("utf-8", "replace"), self.tail[extra:].decode("utf-8", "replace")
        return f"{head}\n[... {dropped} bytes of output left out ...]\n{tail}"


class Shell:
    """A bash with its pipes, and the watch on all that it starts."""

    def __init__(self, folder: str, config: dict[str, Any]):
        self.folder = folder
        self.config = config
        self.own_namespace = config["own_namespace"]
        home = os.environ.get("HOME", "/tmp")
        self.state_path = os.path.join(home, ".shell_state")
        self.watch = make_watch(config, home)
        self.is_busy = False
        self.limit = ""
        self.start()

    def start(self, state: bytes = b"") -> None:
        """Start bash in the session's folder, and have it take over `state`, which `take_state` gave."""
        command_end, self.commands = os.pipe()
        self.status, status_end = os.pipe()
        self.output, output_end = os.pipe()
        os.set_blocking(self.output, False)
        self.pid = os.fork()
        if self.pid == 0:
            self.become_bash(command_end, status_end, output_end)
        self.ended = os.pidfd_open(self.pid)
        for fd in (command_end, status_end, output_end):
            os.close(fd)
        if state:
            # Line by line: bash gives up on one that sets what it keeps for itself. What it says then is dropped.
            write_all(self.commands, state + b"\0")
            if not self.wait(Output(0), time.monotonic() + STATE_TIMEOUT_S, watched=False):
                # Late, its report would be taken for that of the next command.
                signal_one(self.pid, signal.SIGKILL)
                self.stop()
                self.start()

    def become_bash(self, command_end: int, status_end: int, output_end: int) -> NoReturn:
        """In the fork: take the pipes and limits, and become bash. Never returns."""
        try:
            os.setsid()
            # Out of the way of the numbers that are given out next.
            command_end, status_end, output_end = (
                fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in (command_end, status_end, output_end)
            )
            pairs = ((output_end, 1), (output_end, 2), (command_end, COMMAND_FD), (status_end, STATUS_FD))
            for source, target in pairs:
                os.dup2(source, target)
            enter_first(self.folder, self.config["folder"], "/")
            for name, limit in self.config["limits"].items():
                set_limit(getattr(resource, f"RLIMIT_{name}"), limit)
            for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            farewell = FAREWELL.format(path=shlex.quote(self.state_path))
            program = f"trap {shlex.quote(farewell)} RTMAX; {LOOP}"
            os.execvp("bash", ["bash", "--noprofile", "--norc", "-c", program, "bash"])
        finally:
            os._exit(127)

    def stop(self) -> int:
        """Close the pipes and wait for bash; returns its exit code, negative for a signal."""
        for fd in (self.commands, self.status, self.output, self.ended):
            os.close(fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def run(self, command: str, timeout_s: float) -> dict[str, Any]:
        """Run one command; what it printed until its time ran out, or it passed a limit, is kept."""
        self.watch.begin()
        deadline = time.monotonic() + timeout_s
        kept = Output(self.config["output_bytes"])
        if leave := LEAVE.fullmatch(command.strip()):
            return self.leave(int(leave[1] or 0) & 255)
        if select.select([self.ended], [], [], 0)[0]:
            # A job in the background can end the shell between two commands.
            self.stop()
            self.start()
        write_all(self.commands, command.replace("\0", "").encode("utf-8", "replace") + b"\0")
        report = self.wait(kept, deadline)
        result: dict[str, Any] = {"output": kept.text(), "exit_code": None, "timed_out": False}
        if report:
            code, folder, _ = report.split(b"\0")
            self.folder = os.fsdecode(folder)
            result["exit_code"] = int(code)
            self.look()
        elif not self.limit and select.select([self.ended], [], [], 0)[0]:
            result |= self.replace_ended(kept)
            self.look()
        else:
            result["timed_out"] = not self.limit
            self.end_all(kept)
            result["output"] = kept.text()
        return result | {"output": self.add_note(result["output"]), "limit": self.take_limit()}

    def leave(self, code: int) -> dict[str, Any]:
        """End the shell as a plain `exit` asks, and start a new one in its folder.

        It is killed, for what an action has defined could keep bash's own exit from ending it.
        """
        self.folder = read_folder(self.pid) or self.folder
        signal_one(self.pid, signal.SIGKILL)
        self.stop()
        self.start()
        return {"output": ENDED.format(code), "exit_code": code, "timed_out": False, "limit": ""}

    def wait(self, kept: Output, deadline: float, watched: bool = True) -> bytes:
        """What the shell reports at the command's end; b"" at the deadline or a limit, or when the shell has ended."""
        poll = select.poll()
        for fd in (self.output, self.status, self.ended):
            poll.register(fd, select.POLLIN)
        report = b""
        while report.count(b"\0") < 2:
            now = time.monotonic()
            if now >= deadline or (watched and now >= self.watch.next_look and self.look(end=False)):
                return b""
            until = min(deadline, self.watch.next_look) if watched else deadline
            ready = dict(poll.poll(max(0.0, until - now) * 1000))
            if self.output in ready and not self.read_output(kept):
                poll.unregister(self.output)
            if self.status in ready:
                # Read empty when the command replaced the shell (exec): then its end is the one to wait for.
                data = os.read(self.status, 4096)
                report += data
                if not data:
                    poll.unregister(self.status)
            elif self.ended in ready:
                return b""
        self.drain(kept)
        return report

    def look(self, end: bool = True) -> str:
        """The limit that the session has passed, '' for none; with `end`, all its processes are ended for it."""
        reap(self.pid)
        self.limit, alive = self.watch.look()
        self.is_busy = alive > 1
        if self.limit and end:
            self.end_all(Output(0))
        return self.limit

    def add_note(self, output: str) -> str:
        """The output with a line of its own behind it that says which limit was passed."""
        if not self.limit:
            return output
        gap = "\n" if output and not output.endswith("\n") else ""
        return f"{output}{gap}{self.watch.describe(self.limit)}"

    def take_limit(self) -> str:
        """The limit that was passed, '' for none; asked again it is ''."""
        limit, self.limit = self.limit, ""
        return limit

    def end_all(self, kept: Output) -> None:
        """End all processes, and start a new shell where the old one was, with what that has to hand over."""
        freeze_all(self.own_namespace)
        self.folder = read_folder(self.pid) or self.folder
        self.drain(kept)
        kill_others(self.own_namespace, spared=self.pid)
        state = self.take_state()
        kill_all(self.own_namespace)
        self.stop()
        reap(0)
        await_end(self.own_namespace)
        reap(0)
        self.watch.settle()
        self.is_busy = False
        self.start(state)

    def take_state(self) -> bytes:
        """Variables, functions and options as commands that bring them back; b"" from a shell that does not answer."""
        with contextlib.suppress(OSError):
            os.unlink(self.state_path)
        try:
            os.mkfifo(self.state_path, 0o600)
            source = os.open(self.state_path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return b""
        signal_one(self.pid, signal.SIGRTMAX)
        signal_one(self.pid, signal.SIGCONT)
        self.wake()
        state = read_until_end(source, self.ended, time.monotonic() + STATE_TIMEOUT_S)
        os.close(source)
        with contextlib.suppress(OSError):
            os.unlink(self.state_path)
        return state if state.endswith(STATE_END) else b""

    def wake(self) -> None:
        """Give the shell an empty command: where it waits for one, it looks at signals only when one has come."""
        # It may have ended by now, or an action may have filled the pipe.
        if select.select([], [self.commands], [], 0)[1]:
            with contextlib.suppress(BrokenPipeError):
                os.write(self.commands, b"\0")

    def replace_ended(self, kept: Output) -> dict[str, Any]:
        """A new shell in the same folder, for one that ended itself."""
        self.drain(kept)
        code = self.stop()
        self.start()
        note = ENDED.format(code)
        output = kept.text()
        gap = "\n" if output and not output.endswith("\n") else ""
        return {"output": f"{output}{gap}{note}", "exit_code": code}

    def read_output(self, kept: Output) -> int:
        """Take in what is in the output's pipe, at most 64 KiB; returns the bytes read, 0 for none."""
        try:
            data = os.read(self.output, 65536)
        except BlockingIOError:
            return 0
        kept.add(data)
        return len(data)

    def drain(self, kept: Output) -> None:
        """What is in the pipe by now; bounded, for a job in the background may go on printing."""
        left = DRAIN_BYTES
        while left > 0:
            count = self.read_output(kept)
            if not count:
                return
            left -= count


def read_until_end(source: int, ended: int, deadline: float) -> bytes:
    """All that a process writes into a pipe before it ends; cut off at the deadline and at MAX_STATE_BYTES."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(ended, select.POLLIN)
    data = b""
    while len(data) < MAX_STATE_BYTES and (left := deadline - time.monotonic()) > 0:
        ready = dict(poll.poll(left * 1000))
        # None can be read when nobody has opened the pipe to write yet.
        part = b""
        # What was written last may have come after this look at the pipe, and before the one at the end.
        if ready.get(source, 0) & select.POLLIN or ended in ready:
            with contextlib.suppress(BlockingIOError):
                part = os.read(source, 65536)
        data += part
        if ready.get(source, 0) & select.POLLHUP and not part:
            poll.unregister(source)
        if ended in ready and not part:
            break
    return data


def enter_first(*folders: str) -> None:
    """Change to the first folder that can be entered: an action may have taken it away, or locked what is above it."""
    for folder in folders:
        with contextlib.suppress(OSError):
            os.chdir(folder)
            return


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes to a file descriptor, in as many writes as it takes."""
    while data:
        data = data[os.write(fd, data):]
