"""A sandbox's workspace from outside: filled before code runs in it, and read with suspicion afterwards."""

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Result, open_sandbox
from synthkit.gym.task import Task

MAX_FILE_BYTES = 64 << 20


class BadFile(Exception):
    """A file of a workspace that is not taken out: a link, a device, a folder, too large."""


def prepare_workspace(task: Task, dest: Path) -> None:
    """Fill a folder with what the agent may see of a task: its public files, as copies of their own."""
    place_files(task.public_files(), dest)
    if task.config.evaluation_read_only:
        for name in task.config.evaluation_paths:
            (dest / name).chmod(0o555)


def place_files(files: Mapping[str, str | bytes | Path], dest: Path) -> None:
    """Write files by their workspace paths: text, bytes, or copies of a file."""
    for name, content in files.items():
        path = dest / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def read_file(folder: Path, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes | None:
    """A file that untrusted code left below a folder; None when there is none.

    No link is followed at any level, for it could lead to any file of the host. Raises BadFile.
    """
    *parents, last = PurePosixPath(name).parts
    opened = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for parent in parents:
            opened.append(os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened[-1]))
        # Without O_NONBLOCK a pipe would hold the kit up.
        opened.append(os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened[-1]))
        return read_regular(opened[-1], name, max_bytes)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadFile(f"{name} is not a regular file ({error.strerror})") from error
    finally:
        for fd in opened:
            os.close(fd)


def read_regular(fd: int, name: str, max_bytes: int) -> bytes:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise BadFile(f"{name} is not a regular file")
    if os.fstat(fd).st_size > max_bytes:
        raise BadFile(f"{name} is larger than {max_bytes >> 20} MiB")
    with open(fd, "rb", closefd=False) as file:
        data = file.read(max_bytes + 1)
    # It can have grown since.
    if len(data) > max_bytes:
        raise BadFile(f"{name} is larger than {max_bytes >> 20} MiB")
    return data


def run_script(files: Mapping[str, str | bytes | Path], command: str, params: SandboxParams, timeout_s: float, *,
               keep: Sequence[str] = ()) -> tuple[Result, dict[str, bytes]]:
    """Run one command in a fresh sandbox that holds only `files`; returns also those of `keep` that it left.

    A file of `keep` that is no regular file of acceptable size counts as not left. Raises SandboxError.
    """
    with tempfile.TemporaryDirectory(prefix="synthkit-", ignore_cleanup_errors=True) as folder:
        workspace = Path(folder)
        place_files(files, workspace)
        with open_sandbox(workspace, params) as sandbox:
            result = sandbox.run(command, timeout_s)
        return result, {name: data for name in keep if (data := take_file(workspace, name)) is not None}


def take_file(folder: Path, name: str) -> bytes | None:
    try:
        return read_file(folder, name)
    except BadFile:
        return None
