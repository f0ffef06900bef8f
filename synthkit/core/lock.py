"""The lock of a run's folder: whoever writes in it is alone there.

It is `flock` on one file, so the system gives it free when the last process that holds it has gone, however that
ended. Within a process it is counted: a stage's function may call another that takes it too. A kernel inherits the
open file of the process that started it, so a run stays locked for as long as its kernel works, even when the
process above was killed. No other child gets it. That is why filelock's locks do not serve here: each belongs to the
process that took it, and none can be taken over by a child that has inherited the open file.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from synthkit.core.errors import StageError
from synthkit.core.paths import show_path

LOCK_FILE = ".lock"
INHERITED = "SYNTHKIT_LOCK"  # '<file descriptor>:<run folder>', set for a kernel by the process that started it


@dataclass
class Held:
    """A lock that this process holds: the open file, and how many blocks are inside it."""

    fd: int
    blocks: int


_held: dict[Path, Held] = {}
_guard = threading.Lock()


@contextmanager
def hold_run(run_dir: Path, what: str) -> Iterator[int]:
    """Hold the run's lock, so that no other process writes in its folder; yields the lock's file descriptor.

    `what` is told to whoever comes meanwhile. Safe for threads, and a block within a block costs nothing.
    Raises StageError when another process holds the lock.
    """
    key = run_dir.resolve()
    with _guard:
        if key not in _held:
            _held[key] = Held(take_lock(key, what), 0)
        held = _held[key]
        held.blocks += 1
    try:
        yield held.fd
    finally:
        with _guard:
            held.blocks -= 1
            if not held.blocks:
                del _held[key]
                os.close(held.fd)


def take_lock(run_dir: Path, what: str) -> int:
    """The run's lock for this process. Raises StageError when it is taken, or when the folder cannot be locked."""
    path = run_dir / LOCK_FILE
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StageError(f"{show_path(path)} cannot be opened: {error.strerror}",
                         "give this run a folder that can be written") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        note_holder(fd, what)
    except BlockingIOError as error:
        os.close(fd)
        raise StageError(f"another process is at work in {show_path(run_dir)}{describe_holder(path)}",
                         "wait until it ends, or name this run: --run NAME") from error
    except OSError as error:
        os.close(fd)
        raise StageError(f"{show_path(path)} cannot be locked: {error.strerror}",
                         "keep runs on a file system that has locks and free space") from error
    return fd


def adopt_lock() -> None:
    """Go on under the lock of the process that started this one, and keep it from every child of this one.

    The variable alone proves nothing, for grandchildren inherit it too: the open file must be the run's lock file.
    """
    number, _, folder = os.environ.get(INHERITED, "").partition(":")
    if not (number.isdecimal() and folder):
        return
    fd, key = int(number), Path(folder).resolve()
    try:
        if not os.path.samestat(os.fstat(fd), os.stat(key / LOCK_FILE)):
            return
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.set_inheritable(fd, False)
        note_holder(fd, "its notebook's kernel")
    except OSError:
        return
    _held[key] = Held(fd, 1)  # One block that never ends: only the end of this process gives the lock back.


def lock_environment(run_dir: Path, fd: int) -> dict[str, str]:
    """What a kernel's environment must hold, besides the open file itself, so that it works under this lock."""
    return {INHERITED: f"{fd}:{run_dir.resolve()}"}


def note_holder(fd: int, what: str) -> None:
    """Add this process to those that the lock's file names, so that whoever is refused learns who works there."""
    line = json.dumps({"pid": os.getpid(), "what": what}) + "\n"
    os.pwrite(fd, line.encode(), os.fstat(fd).st_size)


def describe_holder(path: Path) -> str:
    """Who holds a lock, as far as its file says: the first process named there that is alive."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        named = next((row for row in rows if psutil.pid_exists(row["pid"])), rows[0])
        return f" (pid {named['pid']}: {named['what']})"
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def forget_locks() -> None:
    """In a child made by fork alone: the lock is its parent's, and no thread is left that holds the guard."""
    global _guard
    _guard = threading.Lock()
    for held in _held.values():
        os.close(held.fd)
    _held.clear()


os.register_at_fork(after_in_child=forget_locks)
adopt_lock()
