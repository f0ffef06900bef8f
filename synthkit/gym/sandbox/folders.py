"""Temporary folders that can be told from those of a kit that was killed, which the next one takes away.

A folder's name says whose it is: the PID namespace, the process and when that began. What another namespace's processes
own is left alone, for they cannot be seen from here.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

NAME = re.compile(r"synthkit-(\d+)-(\d+)-(\d+)-")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new temporary folder that is deleted at the end, whatever untrusted code made of it."""
    folder = make_folder()
    try:
        yield folder
    finally:
        delete_folder(folder)


def delete_folder(folder: Path) -> None:
    """Delete a folder in which untrusted code has been: locked folders too, and ones nested deeper than Python goes."""
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        subprocess.run(["chmod", "-R", "u+rwx", folder], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", "--", folder], capture_output=True, check=False)


def make_folder() -> Path:
    """A new temporary folder that the caller deletes."""
    return Path(tempfile.mkdtemp(prefix=make_prefix()))


def make_prefix() -> str:
    """The start of a new folder's name, after a look for what killed kits have left; see `NAME`."""
    sweep_once(os.getpid(), tempfile.gettempdir())
    return f"synthkit-{read_namespace()}-{os.getpid()}-{read_start(os.getpid())}-"


@cache
def sweep_once(pid: int, folder: str) -> None:
    """`sweep_folders` once for each process and temporary folder: a fork of the kit looks anew."""
    sweep_folders()


def sweep_folders() -> None:
    """Delete this user's folders of kits that run no more."""
    for path in Path(tempfile.gettempdir()).glob("synthkit-*"):
        found = NAME.match(path.name)
        if not found or found[1] != read_namespace() or read_start(int(found[2])) == found[3]:
            continue
        if path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.geteuid():
            delete_folder(path)


def read_namespace() -> str:
    """The PID namespace's number; '0' where there is none."""
    try:
        return "".join(filter(str.isdigit, os.readlink("/proc/self/ns/pid"))) or "0"
    except OSError:
        return "0"


def read_start(pid: int) -> str:
    """When a process began, in ticks since the machine did; '' for one that is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "" if pid != os.getpid() else "0"
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]
