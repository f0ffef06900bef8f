"""A sandbox's workspace from outside: filled before code runs in it, and read with suspicion afterwards."""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox.folders import open_folder
from synthkit.gym.sandbox.sandbox import Result, open_sandbox
from synthkit.gym.task import Task

MAX_FILE_BYTES = 64 << 20
# The same files have the same times in every workspace, so that two resets look the same.
FILE_TIME_S = 1_700_000_000
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK
# What it means that an entry is another thing, or gone, since it was looked at.
CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EACCES, errno.EEXIST, errno.EISDIR)
FICLONE = 0x40049409


class BadFile(Exception):
    """A file of a workspace that is not taken out: a link, a device, a folder, too large."""


def prepare_workspace(task: Task, dest: Path) -> None:
    """Fill a folder with what the agent may see of a task: its public files, as copies of their own."""
    place_files(task.public_files(), dest)
    for name in task.public_files():
        if name.startswith("data/"):
            (dest / name).chmod(0o555)
    if task.config.evaluation_read_only:
        for name in task.config.evaluation_paths:
            if (dest / name).exists():
                (dest / name).chmod(0o555)
    for path in (*dest.rglob("*"), dest):
        os.utime(path, (FILE_TIME_S, FILE_TIME_S))


def place_files(files: Mapping[str, str | bytes | Path], dest: Path, *, replace: bool = False) -> None:
    """Write files by their workspace paths: text, bytes, or copies of a file.

    `replace` is for a folder that holds what an agent left: whatever stands in a file's way is taken away first.
    """
    for name, content in files.items():
        path = dest / name
        if replace:
            clear_way(dest, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def clear_way(dest: Path, path: Path) -> None:
    """Take away what stands where a file is to be written: links and files above it, and what has its name.

    `path` lies below `dest`. No link is followed, for the agent made them.
    """
    for parent in reversed(path.relative_to(dest).parents[:-1]):
        if (dest / parent).is_symlink() or (dest / parent).is_file():
            (dest / parent).unlink()
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clone_files(source: Path, dest: Path, max_bytes: int, *, links: bool = False) -> None:
    """Copy what untrusted code left in a folder: folders and regular files; with `links` symbolic links, as links.

    Copy-on-write where the file system can. No link is followed; pipes and devices are left out. Raises BadFile when
    the files have more bytes in sum.
    """
    try:
        clone_tree(source, dest, max_bytes, links=links)
    except RecursionError as error:
        raise BadFile("the folders of the workspace are nested too deeply") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise BadFile("the names of the workspace's folders are too long") from error


def clone_tree(source: Path, dest: Path, left: int, *, links: bool) -> None:
    """Copy an untrusted folder that is opened without following a link; `left` is bytes. Raises BadFile, OSError."""
    folder = os.open(source, FOLDER)
    try:
        clone_folder(folder, dest, left, links=links)
    finally:
        os.close(folder)


def clone_folder(folder: int, dest: Path, left: int, *, links: bool) -> int:
    """Copy what an open folder holds; returns the bytes that are left of `left`.

    Each name is looked at once, for it can become another thing at any moment; what has changed since is left out.
    """
    for name in set(os.listdir(folder)):
        try:
            left = clone_entry(name, folder, dest / name, left, links=links)
        except OSError as error:
            if error.errno not in CHANGED:
                raise
    return left


def clone_entry(name: str, folder: int, target: Path, left: int, *, links: bool) -> int:
    """Copy one entry of an open folder, with all below it; returns the bytes that are left of `left`."""
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(info.st_mode):
        below = os.open(name, FOLDER, dir_fd=folder)
        try:
            target.mkdir()
            return clone_folder(below, target, left, links=links)
        finally:
            os.close(below)
    if stat.S_ISLNK(info.st_mode) and links:
        target.symlink_to(os.readlink(name, dir_fd=folder))
    elif stat.S_ISREG(info.st_mode):
        return left - clone_file(name, folder, target, left)
    return left


def clone_file(name: str, folder_fd: int, target: Path, left: int) -> int:
    """Copy a regular file with its mode and times; returns its bytes, 0 when it was not to be had any more.

    Raises BadFile when it has more than `left` bytes.
    """
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder_fd)
    except OSError:
        # It is another thing by now, or not to be read even by the owner.
        return 0
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            return 0
        if info.st_size > left:
            raise BadFile("the files of the workspace are too large in sum")
        with target.open("xb") as copy:
            copy_content(fd, copy.fileno(), info.st_size)
        target.chmod(info.st_mode & 0o777)
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
        return info.st_size
    finally:
        os.close(fd)


def copy_content(source: int, target: int, size: int) -> None:
    """At most `size` bytes, for the file may grow while it is read."""
    try:
        fcntl.ioctl(target, FICLONE, source)
        os.ftruncate(target, size)
    except OSError:
        done = 0
        while done < size and (count := os.sendfile(target, source, done, size - done)):
            done += count


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
    """The content of an open file that was named `name`. Raises BadFile when it is not regular, or too large."""
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
    with open_folder() as folder:
        workspace = Path(folder)
        place_files(files, workspace)
        with open_sandbox(workspace, params) as sandbox:
            result = sandbox.run(command, timeout_s)
        return result, {name: data for name in keep if (data := take_file(workspace, name)) is not None}


def take_file(folder: Path, name: str) -> bytes | None:
    """`read_file`, with None for a file that it refuses."""
    try:
        return read_file(folder, name)
    except BadFile:
        return None
