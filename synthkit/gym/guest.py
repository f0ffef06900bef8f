"""The part of the kit that lives inside a sandbox: a persistent bash and an editor, as JSON lines over stdin/stdout.

Only the standard library: it is copied into every sandbox, with guest_editor.py. The first line it reads configures
it; then each request line gets one reply line:
  {"op": "run", "command": str, "timeout_s": float}          -> output, exit_code (None: killed), timed_out
  {"op": "call", "name": str, "args": [str], "text": str}    -> output, exit_code
and every reply holds the working directory and the open file. Whoever reads the replies must not trust them: an
agent's code runs with the same rights as this file.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import time
from typing import Any

from guest_editor import Editor

COMMAND_FD = 63
STATUS_FD = 62
DRAIN_BYTES = 1 << 20
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None)

# Each command is evaluated in the shell itself, so folder, variables and functions last. It gets no stdin and does not
# hold the two pipes, so it can neither swallow the next command nor keep the shell's end from being noticed.
# One line, so that an error in a command's first line is reported as bash would: "line 1".
LOOP = r"""
_status() { return "$1"; }; _rc=0; while IFS= read -r -d '' -u 63 _command; do _status "$_rc";
eval "$_command" </dev/null 62>&- 63<&-; _rc=$?; printf '%s\0%s\0' "$_rc" "$PWD" >&62; done
""".replace("\n", " ")


class Output:
    """The first and the last bytes of what a command prints, and how many between them were dropped."""

    def __init__(self, limit: int):
        self.half = limit // 2
        self.head = bytearray()
        self.tail = bytearray()
        self.dropped = 0

    def add(self, data: bytes) -> None:
        room = self.half - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        extra = len(self.tail) - self.half
        # Cut in large steps: cutting at every read would copy the tail each time.
        if extra > self.half:
            del self.tail[:extra]
            self.dropped += extra

    def text(self) -> str:
        extra = max(0, len(self.tail) - self.half)
        dropped = self.dropped + extra
        if not dropped:
            return (self.head + self.tail).decode("utf-8", "replace")
        head, tail = self.head.decode("utf-8", "replace"), self.tail[extra:].decode("utf-8", "replace")
        return f"{head}\n[... {dropped} bytes of output left out ...]\n{tail}"


class Shell:
    """A bash that lives on from command to command, and is started again when one ends it or times out."""

    def __init__(self, folder: str, config: dict[str, Any]):
        self.folder = folder
        self.config = config
        self.pid = 0
        self.start()

    def start(self) -> None:
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

    def become_bash(self, command_end: int, status_end: int, output_end: int) -> None:
        try:
            os.setsid()
            # Out of the way of the numbers that are given out next.
            command_end, status_end, output_end = (
                fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in (command_end, status_end, output_end)
            )
            pairs = ((output_end, 1), (output_end, 2), (command_end, COMMAND_FD), (status_end, STATUS_FD))
            for source, target in pairs:
                os.dup2(source, target)
            os.chdir(self.folder if os.path.isdir(self.folder) else self.config["folder"])
            for name, limit in self.config["limits"].items():
                set_limit(getattr(resource, f"RLIMIT_{name}"), limit)
            for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            os.execvp("bash", ["bash", "--noprofile", "--norc", "-c", LOOP, "bash"])
        finally:
            os._exit(127)

    def stop(self) -> int:
        """Close the pipes and wait for bash; returns its exit code, negative for a signal."""
        for fd in (self.commands, self.status, self.output, self.ended):
            os.close(fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def run(self, command: str, timeout_s: float) -> dict[str, Any]:
        """Run one command; what it printed until its time ran out is kept."""
        deadline = time.monotonic() + timeout_s
        kept = Output(self.config["output_bytes"])
        if select.select([self.ended], [], [], 0)[0]:
            # A job in the background can end the shell between two commands.
            self.stop()
            self.start()
        write_all(self.commands, command.replace("\0", "").encode("utf-8", "surrogateescape") + b"\0")
        report = self.wait(kept, deadline)
        if report:
            code, folder, _ = report.split(b"\0")
            self.folder = os.fsdecode(folder)
            return {"output": kept.text(), "exit_code": int(code), "timed_out": False}
        return self.replace(kept)

    def wait(self, kept: Output, deadline: float) -> bytes:
        """What the shell reports at the command's end; b"" at the deadline, or when the shell itself has ended."""
        poll = select.poll()
        for fd in (self.output, self.status, self.ended):
            poll.register(fd, select.POLLIN)
        report = b""
        while report.count(b"\0") < 2:
            left = deadline - time.monotonic()
            ready = dict(poll.poll(left * 1000)) if left > 0 else {}
            if self.output in ready and not self.read_output(kept):
                poll.unregister(self.output)
            if self.status in ready:
                # Read empty when the command replaced the shell (exec): then its end is the one to wait for.
                data = os.read(self.status, 4096)
                report += data
                if not data:
                    poll.unregister(self.status)
            elif self.ended in ready or not ready:
                return b""
        self.drain(kept)
        return report

    def replace(self, kept: Output) -> dict[str, Any]:
        """A new shell in the same folder, for one that ended itself or that overran its time and is killed here."""
        ended = bool(select.select([self.ended], [], [], 0)[0])
        if not ended:
            self.folder = read_folder(self.pid) or self.folder
            kill_all(self.config["own_namespace"])
        self.drain(kept)
        code = self.stop()
        self.start()
        if not ended:
            return {"output": kept.text(), "exit_code": None, "timed_out": True}
        note = f"(the shell ended with exit code {code}; a new one was started)"
        return {"output": f"{kept.text()}{note}", "exit_code": code, "timed_out": False}

    def read_output(self, kept: Output) -> int:
        try:
            data = os.read(self.output, 65536)
        except BlockingIOError:
            return 0
        kept.add(data)
        return len(data)

    def reap(self) -> None:
        """Collect the dead that fell to this process; it is the first, or the subreaper, of all that it started."""
        with contextlib.suppress(ChildProcessError):
            while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and dead.si_pid != self.pid:
                os.waitpid(dead.si_pid, 0)

    def drain(self, kept: Output) -> None:
        """What is in the pipe by now; bounded, for a job in the background may go on printing."""
        left = DRAIN_BYTES
        while left > 0:
            count = self.read_output(kept)
            if not count:
                return
            left -= count


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data):]


def set_limit(which: int, limit: int) -> None:
    hard = resource.getrlimit(which)[1]
    # A process gets a second between the signal that tells it about its CPU time and its end.
    wanted = (limit, limit + 1 if which == resource.RLIMIT_CPU else limit)
    resource.setrlimit(which, wanted if hard == resource.RLIM_INFINITY else (min(limit, hard), min(wanted[1], hard)))


def read_folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def kill_all(own_namespace: bool) -> None:
    """Kill every process that the session has left, so that none outlives the action that started it."""
    # In a PID namespace of our own, as its first process, -1 reaches all others at once, which a fork bomb cannot
    # outrun. Anywhere else it would reach the whole machine.
    if own_namespace and os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        return
    for _ in range(50):
        victims = find_descendants()
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not victims:
            return


def find_descendants() -> list[int]:
    """Live processes below this one; it is their subreaper, so a daemon stays below too."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


class Names:
    """Host paths under the names that an agent knows them by, so that no output tells where the kit lives."""

    def __init__(self, pairs: list[list[str]], both_ways: bool):
        self.pairs = pairs
        self.both_ways = both_ways

    def hide(self, text: str) -> str:
        for host, public in self.pairs:
            text = text.replace(host, public)
        return text

    def reveal(self, text: str) -> str:
        for host, public in self.pairs if self.both_ways else ():
            text = text.replace(public, host)
        return text


def serve(requests: int, replies: int) -> None:
    source = open(requests, "rb")
    config = json.loads(source.readline())
    if not config["own_namespace"]:
        # Daemons then stay below this process, where kill_all finds them.
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    shell = Shell(config["folder"], config)
    editor = Editor(lambda: shell.folder)
    names = Names(config["names"], both_ways=not config["own_namespace"])
    send(replies, {"id": "", "folder": names.hide(shell.folder), "open_file": ""})
    for line in source:
        request = json.loads(line)
        shell.reap()
        if request["op"] == "run":
            reply = shell.run(names.reveal(request["command"]), request["timeout_s"])
        else:
            reply = editor.call(request["name"], [names.reveal(arg) for arg in request["args"]], request["text"])
            reply["output"] = cut_text(reply["output"], config["output_bytes"])
        reply |= {"id": request["id"], "folder": names.hide(shell.folder), "open_file": names.hide(editor.path)}
        reply["output"] = names.hide(reply["output"])
        send(replies, reply)
    kill_all(config["own_namespace"])


def send(replies: int, reply: dict[str, Any]) -> None:
    write_all(replies, json.dumps(reply).encode() + b"\n")


def cut_text(text: str, limit: int) -> str:
    kept = Output(limit)
    kept.add(text.encode("utf-8", "replace"))
    return kept.text()


def main() -> None:
    # Away from 0 and 1, and out of reach of what bash starts: the pipes to the kit are not an agent's to use.
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(requests, replies)


if __name__ == "__main__":
    main()
