"""What all backends have in common: a guest process with its pipes, its limits, and the warm interpreter it is lent."""

import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from synthkit.core.errors import SandboxError
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox.backends.warm import Lease, lease_warm

# bubblewrap ends with the thread that started it (--die-with-parent), and threads that roll out episodes come and go.
_spawner = ThreadPoolExecutor(1, thread_name_prefix="sandbox-spawner")


class Guest(subprocess.Popen[bytes]):
    """A guest's process, or the engine's that runs it; requests go to its stdin, replies come from its stdout."""

    stdin: IO[bytes]
    stdout: IO[bytes]


@dataclass(frozen=True)
class Session:
    """A started guest. `errors` is what it complains of, `config` the first line it reads.

    `lease` None says that Python runs are cold there; `fix` tells a person what to do if it does not answer.
    """

    process: Guest
    errors: BinaryIO
    config: dict[str, Any]
    lease: Lease | None
    fix: str


def spawn(command: list[str], environment: dict[str, str], folder: Path, stack: ExitStack, fds: list[int],
          fix: str) -> tuple[Guest, BinaryIO]:
    """Start a guest with pipes for requests and replies, and a file for what it complains of; closes `fds` here.

    Raises SandboxError, with `fix`, when no process can be started.
    """
    errors = stack.enter_context(tempfile.TemporaryFile())
    try:
        process = _spawner.submit(
            Guest, command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            env=environment, pass_fds=fds, cwd=folder, start_new_session=True,
        ).result()
    except OSError as error:
        raise SandboxError(f"the sandbox did not start: {error}", fix) from error
    finally:
        for fd in fds:
            os.close(fd)
    stack.callback(process.stdout.close)
    stack.callback(process.stdin.close)
    os.set_blocking(process.stdin.fileno(), False)
    return process, errors


def lend_python(tools: Path, params: SandboxParams, namespace: int | None, stack: ExitStack) -> Lease | None:
    """Offer a session the warm interpreter, until the stack closes; None where `params.warm` is off.

    `namespace` is a pidfd of a process in the session, None without isolation. Raises OSError when the interpreter
    cannot be started.
    """
    if not params.warm:
        return None
    lease = lease_warm(tools / "warm.sock", params.warm_modules, build_limits(params), namespace)
    stack.callback(lease.close)
    return lease


def build_limits(params: SandboxParams) -> dict[str, int]:
    """Limits of each process, by the names of `resource.RLIMIT_*`: bytes, seconds, counts."""
    limits = {"DATA": params.memory_mb << 20, "CPU": params.cpu_s, "FSIZE": params.file_mb << 20,
              "NOFILE": params.open_files, "CORE": 0}
    # Without a user namespace all processes of the host's user would count. The guest acts at a quarter of it.
    return limits | {"NPROC": 4 * params.processes} if params.backend == "bwrap" else limits


def build_budget(params: SandboxParams) -> dict[str, int]:
    """Limits of all processes together, which the guest watches."""
    return {"memory_mb": params.memory_mb, "processes": params.processes, "cpu_s": params.cpu_s,
            "disk_mb": params.disk_mb}


def read_errors(errors: BinaryIO) -> str:
    """The first 4000 bytes that a guest wrote to stderr, as text."""
    errors.seek(0)
    return errors.read(4000).decode("utf-8", "replace").strip()
