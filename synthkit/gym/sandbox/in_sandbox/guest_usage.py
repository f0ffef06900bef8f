"""What a session uses: its processes, their memory and processor time, and its files. Readings of /proc, no cgroups.

Runs beside guest.py, inside; only the standard library. Sizes are bytes, times are seconds. A process may be gone, or
deny a look, at any moment: then it counts as nothing. Source of the fields: proc(5).
"""

import contextlib
import itertools
import os
import resource
import stat
from collections.abc import Iterator
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
# An empty file takes room too, if not in blocks: with this, a number of files is bounded by a size.
LEAST_FILE = 4096
LONGEST_PATH = 3000
# (private, shared) memory in full, and in shares among those that have it.
FULL = ((b"RssAnon:", b"VmSwap:"), (b"RssShmem:",))
SHARES = ((b"Pss_Anon:", b"SwapPss:"), (b"Pss_Shmem:",))


class Process(NamedTuple):
    """A process as /proc/PID/stat shows it; `own` and `all` are CPU ticks, without and with its reaped children's."""

    pid: int
    state: str
    parent: int
    threads: int
    own: int
    all: int
    started: int


def list_processes(own_namespace: bool) -> list[Process]:
    """The session's processes but for this one: all of its PID namespace, or else those below it."""
    me = str(os.getpid())
    names = [name for name in os.listdir("/proc") if name.isdigit() and name != me]
    found = [process for name in names if (process := read_stat(name))]
    if own_namespace:
        return found
    children: dict[int, list[Process]] = {}
    for process in found:
        children.setdefault(process.parent, []).append(process)
    below, todo = [], [int(me)]
    while todo:
        mine = children.get(todo.pop(), [])
        below += mine
        todo += [process.pid for process in mine]
    return below


def glance_at_processes(own_namespace: bool) -> list[Process]:
    """The session's processes, at a lower price than `list_processes`, which goes through a whole host's /proc.

    One that is starting or ending just now may be missing: the next look will find it.
    """
    if own_namespace or not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return list_processes(own_namespace)
    below, todo = [], [str(os.getpid())]
    while todo:
        mine = read_children(todo.pop())
        todo += mine
        below += [process for pid in mine if (process := read_stat(pid))]
    return below


def read_children(pid: str) -> list[str]:
    """The PIDs of a process's children, of all its threads."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += file.read().split()
    return found


def read_stat(pid: str) -> Process | None:
    """A process from its /proc/PID/stat; None when it has gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    own = int(fields[11]) + int(fields[12])
    return Process(int(pid), fields[0].decode(), int(fields[1]), int(fields[17]), own,
                   own + int(fields[13]) + int(fields[14]), int(fields[19]))


def read_reaped() -> float:
    """Processor time of the children that this process has waited for, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_memory(processes: list[Process], exactly: bool) -> tuple[int, int]:
    """(private, shared) bytes of memory that no file on a disk backs.

    Without `exactly` each process counts in full, so that what several share counts several times. With it, which is
    slow, what is shared is divided among all that have it, processes outside such as the warm interpreter included.
    """
    read = read_shares if exactly else read_full
    sizes = [read(process.pid) for process in processes]
    return sum(private for private, _ in sizes), sum(shared for _, shared in sizes)


def read_full(pid: int) -> tuple[int, int]:
    """(private, shared) memory of a process in full; zeros when it cannot be read."""
    try:
        return read_kinds(f"/proc/{pid}/status", FULL)
    except OSError:
        return 0, 0


def read_shares(pid: int) -> tuple[int, int]:
    """(private, shared) memory of a process, what it shares divided among those that have it."""
    try:
        return read_kinds(f"/proc/{pid}/smaps_rollup", SHARES)
    except OSError:
        # One that does not let itself be read counts in full.
        return read_full(pid)


def read_kinds(path: str, kinds: tuple[tuple[bytes, ...], tuple[bytes, ...]]) -> tuple[int, int]:
    """The sums of two kinds of lines of a /proc file, which gives KiB, in bytes. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        lines = file.read().split(b"\n")
    private, shared = (sum(int(line.split()[1]) << 10 for line in lines if line.startswith(names)) for names in kinds)
    return private, shared


def list_memory_folders(own_namespace: bool) -> list[str]:
    """The session's file systems in memory; without namespaces these folders are the host's."""
    folders = ("/tmp", "/dev/shm", os.environ.get("HOME", ""))
    return [folder for folder in folders if folder and os.path.ismount(folder)] if own_namespace else []


def measure_mounts(folders: list[str]) -> int:
    """Bytes in file systems, at least LEAST_FILE for each file; one that cannot be read counts as nothing."""
    used = 0
    for folder in folders:
        with contextlib.suppress(OSError):
            info = os.statvfs(folder)
            used += (info.f_blocks - info.f_bfree) * info.f_frsize + (info.f_files - info.f_ffree) * LEAST_FILE
    return used


def measure_segments() -> int:
    """Shared memory of System V, which lives on without a process."""
    return sum_column("shm", "rss") + sum_column("msg", "cbytes")


def sum_column(kind: str, name: str) -> int:
    """The sum of a column of /proc/sysvipc; 0 where the kernel has no such file."""
    try:
        with open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError:
        return 0
    column = rows[0].index(name) if rows else 0
    return sum(int(row[column]) for row in rows[1:])


def measure_hidden(processes: list[Process], mounts: list[str]) -> tuple[int, int]:
    """(memory, disk) of open files that have no name: memfds, and files deleted while they are open."""
    counted = {os.stat(folder).st_dev for folder in mounts}
    memory: dict[tuple[int, int], int] = {}
    disk: dict[tuple[int, int], int] = {}
    for path, link in list_open_files(processes):
        if not link.endswith(" (deleted)"):
            continue
        with contextlib.suppress(OSError):
            info = os.stat(path)
            if stat.S_ISREG(info.st_mode) and info.st_dev not in counted:
                kind = memory if link.startswith("/memfd:") else disk
                kind[info.st_dev, info.st_ino] = info.st_blocks * 512
    return sum(memory.values()), sum(disk.values())


def list_open_files(processes: list[Process]) -> Iterator[tuple[str, str]]:
    """(path below /proc, what it links to) of every file descriptor of the processes."""
    for process in processes:
        folder = f"/proc/{process.pid}/fd"
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            with contextlib.suppress(OSError):
                yield f"{folder}/{name}", os.readlink(f"{folder}/{name}")


def measure_folder(folder: str, most: int) -> int:
    """Bytes that the files below a folder take up, each at least LEAST_FILE; a file with two names counts once.

    The search stops after as many entries as can amount to `most` bytes, and 1000 more.
    """
    used, todo = 0, [folder]
    seen: set[tuple[int, int]] = set()
    held: list[int] = []
    left = 1000 + most // LEAST_FILE
    try:
        while todo and left > 0:
            entries = scan_folder(todo.pop(), held, left)
            left -= len(entries)
            todo += [path for info, path in entries if stat.S_ISDIR(info.st_mode)]
            for info, _ in entries:
                if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                    if (info.st_dev, info.st_ino) in seen:
                        continue
                    seen.add((info.st_dev, info.st_ino))
                used += max(info.st_blocks * 512, LEAST_FILE)
    finally:
        for fd in held:
            os.close(fd)
    return used


def scan_folder(path: str, held: list[int], most: int) -> list[tuple[os.stat_result, str]]:
    """The entries of a folder, also of one that its owner has closed, or whose path is too long for the kernel.

    Descriptors that have to stay open meanwhile go to `held`. None for a folder that cannot be opened.
    """
    try:
        if len(path) > LONGEST_PATH:
            held.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
            path = f"/proc/self/fd/{held[-1]}"
        return list_entries(path, most)
    except PermissionError:
        return open_up(path, most)
    except OSError:
        return []


def open_up(path: str, most: int) -> list[tuple[os.stat_result, str]]:
    """The entries of a folder that its owner has closed: it is opened for a moment, for they take up room too."""
    try:
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        os.chmod(path, mode | 0o500)
        try:
            return list_entries(path, most)
        finally:
            os.chmod(path, mode)
    except OSError:
        return []


def list_entries(path: str, most: int) -> list[tuple[os.stat_result, str]]:
    """The first `most` entries of a folder, links not followed. Raises OSError when it cannot be opened."""
    found = []
    with os.scandir(path) as entries:
        for entry in itertools.islice(entries, most):
            with contextlib.suppress(OSError):
                found.append((entry.stat(follow_symlinks=False), entry.path))
    return found
