"""The part of the kit that lives inside a sandbox: a persistent bash and an editor, as JSON lines over stdin/stdout.

Only the standard library and its neighbours guest_*.py: they are copied into every sandbox. The first line it reads
configures it; then each request line gets one reply line:
  {"op": "run", "command": str, "timeout_s": float}          -> output, exit_code (None: killed), timed_out, limit
  {"op": "call", "name": str, "args": [str], "text": str}    -> output, exit_code
and every reply holds the working directory, the open file, and the session's processor time in seconds so far; one
after a limit was passed by what ran in the background says so. Whoever reads the replies must not trust them: an
agent's code runs with the same rights as this file.
"""

import ctypes
import json
import os
import resource
import select
import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Side by side in a sandbox, a package for the type checker.
    from synthkit.gym.sandbox.in_sandbox.guest_editor import Editor
    from synthkit.gym.sandbox.in_sandbox.guest_processes import kill_all, reap, set_limit
    from synthkit.gym.sandbox.in_sandbox.guest_shell import Output, Shell, write_all
else:
    from guest_editor import Editor
    from guest_processes import kill_all, reap, set_limit
    from guest_shell import Output, Shell, write_all

TICK_S = 0.1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None)


class Names:
    """Host paths under the names that an agent knows them by, so that no output tells where the kit lives."""

    def __init__(self, pairs: list[list[str]], both_ways: bool):
        self.pairs = pairs
        self.both_ways = both_ways

    def hide(self, text: str) -> str:
        """A text for the agent: host paths under their public names."""
        for host, public in self.pairs:
            text = text.replace(host, public)
        return text

    def reveal(self, text: str) -> str:
        """A text of the agent's: public names as host paths, where the sandbox does not have them itself."""
        for host, public in self.pairs if self.both_ways else ():
            text = text.replace(public, host)
        return text


class Requests:
    """The kit's lines; while something runs in the background, its limits are watched between two of them."""

    def __init__(self, fd: int):
        self.fd = fd
        self.data = b""

    def read(self, shell: Shell | None = None) -> tuple[bytes, str]:
        """(the next line, b"" at the end; the limit that was passed meanwhile, '' for none)."""
        limit = ""
        while b"\n" not in self.data:
            # With nothing to watch it sleeps for good: an idle session costs nothing.
            wait_s = max(TICK_S, shell.watch.next_look - time.monotonic()) if shell and shell.is_busy else None
            if select.select([self.fd], [], [], wait_s)[0]:
                part = os.read(self.fd, 1 << 16)
                if not part:
                    return b"", limit
                self.data += part
            elif shell:
                limit = shell.look() or limit
                shell.take_limit()
        line, _, self.data = self.data.partition(b"\n")
        return line, limit


def serve(requests: int, replies: int) -> None:
    """Answer the kit's requests from one file descriptor on another until the first one ends; then end all."""
    source = Requests(requests)
    config = json.loads(source.read()[0])
    if not config["own_namespace"]:
        # Daemons then stay below this process, where kill_all finds them.
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # The editor writes as much into a file as any process may.
    set_limit(resource.RLIMIT_FSIZE, config["limits"]["FSIZE"])
    shell = Shell(config["folder"], config)
    editor = Editor(lambda: shell.folder, config["output_bytes"])
    names = Names(config["names"], both_ways=not config["own_namespace"])
    send(replies, {"id": "", "folder": names.hide(shell.folder), "open_file": ""})
    # It was for what kept the session from starting; the editor could open it.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    while True:
        line, limit = source.read(shell)
        if not line:
            break
        request = json.loads(line)
        reap(shell.pid)
        if request["op"] == "run":
            reply = shell.run(names.reveal(request["command"]), request["timeout_s"])
        else:
            reply = editor.call(request["name"], [names.reveal(arg) for arg in request["args"]], request["text"])
            reply["output"] = cut_text(reply["output"], config["output_bytes"])
        if limit:
            # What happened since the reply before comes first.
            reply |= {"output": f"{shell.watch.describe(limit)}\n{reply['output']}",
                      "limit": reply.get("limit") or limit}
        reply |= {"id": request["id"], "folder": names.hide(shell.folder), "open_file": names.hide(editor.path),
                  "cpu_s": shell.watch.spent_s}
        reply["output"] = names.hide(reply["output"])
        send(replies, reply)
    kill_all(config["own_namespace"])


def send(replies: int, reply: dict[str, Any]) -> None:
    """Write a reply as one JSON line; what is no text in it is replaced."""
    # A folder's name may be no text.
    reply = {name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
             for name, value in reply.items()}
    write_all(replies, json.dumps(reply).encode() + b"\n")


def cut_text(text: str, limit: int) -> str:
    """A text with its middle left out where it has more bytes than `limit`."""
    kept = Output(limit)
    kept.add(text.encode("utf-8", "replace"))
    return kept.text()


def main() -> None:
    """Set the guest apart from what it will start, and serve."""
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
