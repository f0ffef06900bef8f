"""The session's processes, stopped and ended all at once, and the limits that each is born with. Runs beside guest.py.

In a PID namespace of its own, as its first process, the guest reaches all others with one call, which a fork bomb
cannot outrun. Anywhere else that would reach the whole machine, and the processes below it are gone through.
"""

import contextlib
import os
import resource
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Side by side in a sandbox, a package for the type checker.
    from synthkit.gym.sandbox.in_sandbox.guest_usage import list_processes
else:
    from guest_usage import list_processes

PASSES = 50
END_TIMEOUT_S = 10.0


def set_limit(which: int, limit: int) -> None:
    """Set a soft and a hard limit of this process (`resource.RLIMIT_*`), never above the hard one that it has."""
    hard = resource.getrlimit(which)[1]
    # A process gets a second between the signal that tells it about its CPU time and its end.
    wanted = (limit, limit + 1 if which == resource.RLIMIT_CPU else limit)
    resource.setrlimit(which, wanted if hard == resource.RLIM_INFINITY else (min(limit, hard), min(wanted[1], hard)))


def signal_one(pid: int, number: int) -> None:
    """Send a signal; a process that has gone, or that may not be signalled, is left alone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def freeze_all(own_namespace: bool) -> None:
    """Stop every process, so that none can start another."""
    if own_namespace and os.getpid() == 1:
        signal_one(-1, signal.SIGSTOP)
        return
    stopped: set[int] = set()
    for _ in range(PASSES):
        fresh = {process.pid for process in list_processes(own_namespace)} - stopped
        for pid in fresh:
            signal_one(pid, signal.SIGSTOP)
        stopped |= fresh
        if not fresh:
            return


def kill_others(own_namespace: bool, spared: int) -> None:
    """Kill the session's processes but for this one and the one that is spared."""
    for process in list_processes(own_namespace):
        if process.pid != spared:
            signal_one(process.pid, signal.SIGKILL)


def kill_all(own_namespace: bool) -> None:
    """Kill every process that the session has left, so that none outlives the action that started it."""
    if own_namespace and os.getpid() == 1:
        signal_one(-1, signal.SIGKILL)
        return
    freeze_all(own_namespace)
    kill_others(own_namespace, spared=0)


def await_end(own_namespace: bool) -> None:
    """Kill until no process is left but those whose end somebody has yet to wait for: memory is free then."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while any(process.state != "Z" for process in list_processes(own_namespace)) and time.monotonic() < deadline:
        kill_all(own_namespace)
        time.sleep(0.001)


def reap(spared: int) -> None:
    """Collect the dead that fell to this process; it is the first, or the subreaper, of all that it started."""
    with contextlib.suppress(ChildProcessError):
        while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and dead.si_pid != spared:
            os.waitpid(dead.si_pid, 0)


def read_folder(pid: int) -> str:
    """The folder that a process is in; '' when it cannot be seen."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""
