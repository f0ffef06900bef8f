"""The limits that hold for a session in sum: memory, processes, processor time and disk, watched from inside.

Without cgroups, which are often not ours to make: while anything runs, all of the session's processes are looked at
about every 50 ms, so a limit can be passed for that long. Runs beside guest.py, inside; only the standard library.
"""

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Side by side in a sandbox, a package for the type checker.
    from synthkit.gym.sandbox.in_sandbox import guest_usage as usage
    from synthkit.gym.sandbox.in_sandbox.guest_usage import Process
else:
    import guest_usage as usage
    from guest_usage import Process

TICK_S = 0.05
DISK_TICK_S = 0.5
# Looks take no more than one part in so many of the time; those at the disk are long, and output waits for them.
PACE, DISK_PACE = 10, 20
# A single process gets a signal of the kernel's at the limit, and this long to take notice.
GRACE_S = 1
# A shell and what cleans up fit into this; so they are let live where files alone fill the memory.
SMALL = 32 << 20
SAYINGS = {
    "memory": "used more than {memory_mb} MiB of memory",
    "processes": "used more than {processes} processes at one time",
    "cpu": "used more than {cpu_s} s of processor time",
    "disk": "wrote more than {disk_mb} MiB to disk",
}


class Watch:
    """What the session uses, against its budget: `memory_mb`, `processes`, `cpu_s` (an action), `disk_mb`.

    Processor time comes from samples: of a process whose end nobody below this one waits for, up to a tick is missed.
    """

    def __init__(self, budget: dict[str, int], own_namespace: bool, folders: list[str]):
        self.budget = budget
        self.own_namespace = own_namespace
        self.folders = folders
        self.mounts = usage.list_memory_folders(own_namespace)
        self.spent_s = 0.0
        self.reaped_s = usage.read_reaped()
        self.seen: dict[tuple[int, int], Process] = {}
        self.hidden = 0
        self.disk = self.measure_disk([])
        self.begin()

    def begin(self) -> None:
        """An action begins: its processor time and what it writes count from here."""
        if self.disk > self.budget["disk_mb"] << 20:
            # What was deleted since the last look must not count as there.
            self.disk = self.measure_disk([])
        self.start_s = self.spent_s
        self.start_disk = self.disk
        self.start_files = usage.measure_mounts(self.mounts) + self.hidden
        self.next_look = time.monotonic() + TICK_S

    def look(self) -> tuple[str, int]:
        """(the limit that is passed or '', the number of processes that live)."""
        started = time.monotonic()
        processes = usage.glance_at_processes(self.own_namespace)
        self.count_time(processes)
        limit = self.find_limit(processes, started)
        now = time.monotonic()
        self.next_look = now + max(TICK_S, PACE * (now - started))
        return limit, sum(process.state != "Z" for process in processes)

    def find_limit(self, processes: list[Process], now: float) -> str:
        """The first limit that is passed by now, '' for none; the disk is measured when its time has come."""
        if sum(process.threads for process in processes) > self.budget["processes"]:
            return "processes"
        # The shell alone is held by its own limit.
        if len(processes) > 1 and self.passes_memory(processes):
            return "memory"
        if self.spent_s - self.start_s > self.budget["cpu_s"] + GRACE_S:
            return "cpu"
        if now >= self.next_disk:
            self.disk = self.measure_disk(processes)
            # Only what grows is stopped: where the disk stays full, files can still be deleted.
            if self.disk > max(self.budget["disk_mb"] << 20, self.start_disk):
                return "disk"
        return ""

    def passes_memory(self, processes: list[Process]) -> bool:
        """Whether memory is over its limit: measured in full first, in shares only when that is too much."""
        most = self.budget["memory_mb"] << 20
        files = usage.measure_mounts(self.mounts) + self.hidden
        private, shared = usage.measure_memory(processes, exactly=False)
        # What is shared is a file in memory as a rule, mapped by some.
        if private + max(shared, files) <= most:
            return False
        private, shared = usage.measure_memory(processes, exactly=True)
        return private + max(shared, files) > most and (private > SMALL or files > self.start_files)

    def measure_disk(self, processes: list[Process]) -> int:
        """Bytes of the session's files, deleted ones that are open included; sets when to look again."""
        started = time.monotonic()
        memory, disk = usage.measure_hidden(processes, self.mounts)
        self.hidden = memory + (usage.measure_segments() if self.own_namespace else 0)
        most = 2 * self.budget["disk_mb"] << 20
        disk += usage.measure_mounts(self.mounts) + sum(usage.measure_folder(folder, most) for folder in self.folders)
        now = time.monotonic()
        self.next_disk = now + max(DISK_TICK_S, DISK_PACE * (now - started))
        return disk

    def count_time(self, processes: list[Process]) -> None:
        """Add the processor time that was used since the last look.

        A process that ends hands its time to the process that waits for it, which is one of these or the guest. The
        warm interpreter's programs hand theirs to nobody here, and neither do children whose end is ignored: then the
        sum of what each process has used itself is the larger one, and counts.
        """
        before, self.seen = self.seen, {(process.pid, process.started): process for process in processes}
        reaped_before, self.reaped_s = self.reaped_s, usage.read_reaped()
        handed = sum(process.all for process in self.seen.values()) - sum(process.all for process in before.values())
        own = sum(process.own - (before[key].own if key in before else 0) for key, process in self.seen.items())
        self.spent_s += max(handed / usage.TICKS + self.reaped_s - reaped_before, own / usage.TICKS)

    def describe(self, limit: str) -> str:
        """The line that tells the agent which limit it has passed."""
        return f"(stopped: the action {SAYINGS[limit].format(**self.budget)}; all its processes were ended)"

    def settle(self) -> None:
        """After all processes were ended: what is there now is where the next action begins."""
        self.count_time(usage.list_processes(self.own_namespace))
        self.disk = self.measure_disk([])
        self.begin()


def make_watch(config: dict[str, Any], home: str) -> Watch:
    """The home folder is on disk where the session has no file systems of its own."""
    folders = [config["folder"]] if config["own_namespace"] else [config["folder"], home]
    return Watch(config["budget"], config["own_namespace"], folders)
