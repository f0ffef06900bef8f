"""The limits of a session in sum: what passes one is stopped and told, and the next action finds its files.

No clock decides here, so that a slow machine finds the same as a fast one: what is to be stopped goes on until it is,
and all limits but the one under test are out of reach. HANG_S is how long only a fault takes.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Result, Sandbox, open_sandbox

HANG_S = 300
WIDE = {"warm": False, "memory_mb": 4000, "processes": 400, "cpu_s": 3 * HANG_S, "disk_mb": 1000, "file_mb": 64,
        "open_files": 64, "output_kb": 8}
SMALL = {"memory": {"memory_mb": 300}, "processes": {"processes": 40}, "cpu": {"cpu_s": 1}, "disk": {"disk_mb": 8}}
needs_bwrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
BACKENDS = [pytest.param("bwrap", marks=needs_bwrap), "process"]
SAID = {
    "memory": "(stopped: the action used more than 300 MiB of memory; all its processes were ended)",
    "processes": "(stopped: the action used more than 40 processes at one time; all its processes were ended)",
    "cpu": "(stopped: the action used more than 1 s of processor time; all its processes were ended)",
    "disk": "(stopped: the action wrote more than 8 MiB to disk; all its processes were ended)",
}
# Each bomb is bounded by itself too, should no limit hold; none ends by itself in time.
PROGRAMS = {
    "hold.py": "import sys, time\nkept = b'x' * (int(sys.argv[1]) << 20)\nprint('held', flush=True)\n"
               "time.sleep(600)\n",
    "burn.py": "import time\nwhile time.process_time() < 600: pass\n",
    "use.py": "import os, signal, sys, time\nif sys.argv[1:]:\n    signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
              "    child = os.fork()\n    while child and os.path.exists(f'/proc/{child}'): time.sleep(0.01)\n"
              "    if child: os._exit(0)\n"
              "while time.process_time() < 1: pass\n",
    "files.py": "for n in range(2500):\n    with open(f'many/{n}', 'w') as file:\n        file.write('x')\n",
    "forks.py": "import os, time\nfor _ in range(400):\n    if not os.fork():\n        time.sleep(600)\n"
                "        os._exit(0)\ntime.sleep(600)\n",
    "threads.py": "import threading, time\nthreading.stack_size(1 << 16)\n"
                  "for _ in range(200): threading.Thread(target=time.sleep, args=(600,)).start()\n",
    "shared.py": "import mmap, os, time\nmemory = mmap.mmap(-1, 200 << 20)\n"
                 "for _ in range(200): memory.write(b'x' * (1 << 20))\nfor _ in range(3): os.fork()\n"
                 "sum(memory[n] for n in range(0, 200 << 20, 4096))\ntime.sleep(0.5)\n",
    "secret.py": "import os, time\nfor n in range(8):\n    fd = os.memfd_create('m')\n"
                 "    os.posix_fallocate(fd, 0, 60 << 20)\ntime.sleep(600)\n",
    "deleted.py": "import os, time\nfor n in range(2):\n    fd = os.open('gone', os.O_CREAT | os.O_RDWR)\n"
                  "    os.unlink('gone')\n    os.posix_fallocate(fd, 0, 15 << 20)\ntime.sleep(600)\n",
    "deep.py": "import os, time\nfor n in range(60):\n    os.mkdir('d' * 100)\n    os.chdir('d' * 100)\n"
               "open('f', 'wb').write(bytes(25 << 20))\ntime.sleep(600)\n",
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def session(backend: str, tmp_path: Path) -> Iterator[Sandbox]:
    with open_small("", tmp_path, backend) as sandbox:
        yield sandbox


def open_small(limit: str, folder: Path, backend: str = "bwrap") -> Sandbox:
    """A session in which this one limit can be reached."""
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
    return open_sandbox(folder, SandboxParams(**{**WIDE, "backend": backend, **SMALL.get(limit, {})}))


def check_stopped(session: Sandbox, result: Result, limit: str) -> None:
    """It was stopped for this limit alone, before its own end, and the session goes on."""
    assert result.limit == limit, result
    assert result.output.rstrip("\n").split("\n")[-1] == SAID[limit]
    assert (result.exit_code, result.timed_out) == (None, False)
    after = session.run("ls hold.py; jobs; pwd", HANG_S)
    assert (after.output, after.limit) == ("hold.py\n/home/agent/workspace\n", "")


def test_memory_is_limited_in_sum(backend: str, tmp_path: Path) -> None:
    with open_small("memory", tmp_path, backend) as session:
        result = session.run("echo begun; for n in 1 2 3 4 5 6; do python hold.py 70 & done; wait", HANG_S)
        check_stopped(session, result, "memory")
        assert result.output.startswith("begun\n")
        fits = session.run("python hold.py 70 > said & until grep -q held said; do sleep 0.1; done; kill %1", HANG_S)
        assert (fits.exit_code, fits.limit) == (0, "")


def test_what_processes_share_counts_once(backend: str, tmp_path: Path) -> None:
    with open_small("memory", tmp_path, backend) as session:
        assert session.run("python shared.py", HANG_S).limit == ""


@needs_bwrap
@pytest.mark.parametrize("command, limit", [
    ("python secret.py", "memory"),
    ("head -c 16M /dev/zero > /tmp/a; head -c 16M /dev/zero > ~/b; sleep 600", "disk"),
    ("mkdir shut; head -c 25M /dev/zero > shut/f; chmod 0 shut; sleep 600", "disk"),
    ("python deleted.py", "disk"), ("python deep.py", "disk"),
])
def test_what_is_out_of_sight_counts(tmp_path: Path, command: str, limit: str) -> None:
    with open_small(limit, tmp_path) as session:
        check_stopped(session, session.run(command, HANG_S), limit)


@pytest.mark.parametrize("program", ["forks.py", "threads.py"])
def test_processes_are_limited(backend: str, tmp_path: Path, program: str) -> None:
    with open_small("processes", tmp_path, backend) as session:
        check_stopped(session, session.run(f"python {program}", HANG_S), "processes")


@needs_bwrap
def test_a_fork_bomb_ends(tmp_path: Path) -> None:
    with open_small("processes", tmp_path) as session:
        check_stopped(session, session.run(":() { :|:& }; :; sleep 600", HANG_S), "processes")
        assert session.run("ps ax | wc -l", HANG_S).output == "5\n"


def test_processor_time_is_limited_in_sum(backend: str, tmp_path: Path) -> None:
    """Six together have it long before the kernel ends the last of them, each at the same limit for itself."""
    together = "for n in 1 2 3 4 5 6; do python burn.py & done; wait"
    with open_small("cpu", tmp_path, backend) as session:
        check_stopped(session, session.run(together, HANG_S), "cpu")
        first = session.cpu_seconds
        check_stopped(session, session.run(together, HANG_S), "cpu")
        assert first >= 1 and session.cpu_seconds - first >= 1


def test_processor_time_of_what_has_ended_counts_once(session: Sandbox) -> None:
    """Twice a second of work, start and all; were each counted twice, it would be four."""
    assert session.run("python use.py; python use.py", HANG_S).exit_code == 0
    used = session.cpu_seconds
    assert 1.9 <= used < 3.6
    # Nobody waits for this one's child, which does the work: samples of it are all that is known.
    assert session.run("python use.py apart", HANG_S).exit_code == 0
    assert 0.5 <= session.cpu_seconds - used < 1.9


@pytest.mark.parametrize("fill", ["python files.py; sleep 600", "head -c 30M /dev/zero > many/big; sleep 600"])
def test_disk_is_limited_and_can_be_freed(backend: str, tmp_path: Path, fill: str) -> None:
    with open_small("disk", tmp_path, backend) as session:
        check_stopped(session, session.run(f"mkdir many; {fill}", HANG_S), "disk")
        # Still full: what does not make it fuller is let be. The seconds are for looks at the disk, which must say so.
        assert session.run("sleep 1; echo still here", HANG_S).output == "still here\n"
        freed = session.run("rm -r many; sleep 1; head -c 5M /dev/zero > big; sleep 1; ls big", HANG_S)
        assert freed.output == "big\n"


def test_an_output_flood_keeps_head_and_tail(session: Sandbox) -> None:
    result = session.run("echo first; head -c 30M /dev/zero | tr '\\0' 'x'; echo; echo last", HANG_S)
    lines = result.output.split("\n")
    assert (lines[0], lines[-2], result.limit) == ("first", "last", "")
    assert "bytes of output left out ...]" in result.output
    assert len(result.output) < 10_000


def test_open_files_are_limited(session: Sandbox) -> None:
    program = "kept = [open('/dev/null') for _ in range(100)]"
    assert "Too many open files" in session.run(f'python -c "{program}"', HANG_S).output


def test_what_runs_in_the_background_is_stopped_and_told(backend: str, tmp_path: Path) -> None:
    with open_small("processes", tmp_path, backend) as session:
        begun = session.run("(until [ -e go ]; do sleep 0.1; done; exec python forks.py) & echo begun", HANG_S)
        assert begun.output == "begun\n"
        session.run("kept=yes", HANG_S)
        guest = find_guest(session._process.pid)
        first = children(guest)
        (tmp_path / "go").touch()
        wait_for_new_shell(guest, first)
        result = session.run("echo next $kept", HANG_S)
        assert (result.output, result.limit) == (f"{SAID['processes']}\nnext yes\n", "processes")
        assert session.run("echo again", HANG_S).output == "again\n"


def wait_for_new_shell(guest: int, first: list[int]) -> None:
    """Until the guest has replaced bash, as seen from outside."""
    end = time.monotonic() + HANG_S
    while children(guest) == first or len(children(guest)) != 1:
        assert time.monotonic() < end, "the shell was not replaced"
        time.sleep(0.05)


def find_guest(pid: int) -> int:
    below = children(pid)
    return below[0] if below and "guest" in Path(f"/proc/{below[0]}/cmdline").read_text() else pid


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("stopped", ["sleep 600", "while :; do :; done", "read x < <(sleep 600)"])
def test_variables_outlive_what_was_stopped(session: Sandbox, stopped: str) -> None:
    session.run("plain='a b'; export SEEN=yes; list=(1 '2 3'); greet() { echo hello $1; }", HANG_S)
    session.run("shopt -s nullglob; set -u; mkdir -p sub; cd sub", HANG_S)
    assert session.run(stopped, 1).timed_out
    told = "echo $plain $(printenv SEEN) ${list[1]}; greet you; echo *.none; pwd; echo $unset"
    said = session.run(told, HANG_S).output
    assert said.split("\n")[:4] == ["a b yes 2 3", "hello you", "", "/home/agent/workspace/sub"]
    assert "unbound variable" in said


def test_a_stop_is_told_however_long_the_next_shell_takes(backend: str, tmp_path: Path) -> None:
    """Much longer than until the next look: it is handed so many variables."""
    with open_small("processes", tmp_path, backend) as session:
        session.run("large=$(head -c 300000 /dev/zero | tr '\\0' x)", HANG_S)
        check_stopped(session, session.run("python forks.py", HANG_S), "processes")
        assert session.run("echo ${#large}", HANG_S).output == "300000\n"


@needs_bwrap
def test_memory_shared_with_the_warm_interpreter_does_not_count(tmp_path: Path) -> None:
    """Five of them have more than the limit, each by itself; and they are stopped when it is their own."""
    program = ("import os, sys, time, pandas as pd\nframe = pd.DataFrame({'a': range(1000)})\nprint(frame.a.sum())\n"
               "kept = b'x' * (int(sys.argv[1]) << 20)\nos.mkdir('up/' + sys.argv[3])\n"
               "while len(os.listdir('up')) < 5: time.sleep(0.1)\ntime.sleep(float(sys.argv[2]))\n")
    (tmp_path / "warm.py").write_text(program)
    (tmp_path / "use.py").write_text(PROGRAMS["use.py"])
    params = SandboxParams(memory_mb=260, cpu_s=3 * HANG_S, warm_modules=["pandas", "sklearn.ensemble"])
    with open_sandbox(tmp_path, params) as sandbox:
        assert sandbox.cold_reason == ""
        together = "rm -rf up; mkdir up; for n in 1 2 3 4 5; do python warm.py {} {} $n & done; wait"
        result = sandbox.run(together.format(1, 0.5), HANG_S)
        assert (result.output, result.limit) == ("499500\n" * 5, "")
        assert sandbox.run(together.format(45, 600), HANG_S).limit == "memory"
        used = sandbox.cpu_seconds
        sandbox.run("python use.py", HANG_S)
        assert 0.5 <= sandbox.cpu_seconds - used < 1.9
