"""The limits of a session in sum: what passes one is stopped and told, and the next action finds its files."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Result, Sandbox, open_sandbox

SMALL = {"warm": False, "memory_mb": 300, "processes": 40, "cpu_s": 1, "disk_mb": 8, "file_mb": 64, "open_files": 64,
         "output_kb": 8}
needs_bwrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
BACKENDS = [pytest.param("bwrap", marks=needs_bwrap), "process"]
SAID = {
    "memory": "(stopped: the action used more than 300 MiB of memory; all its processes were ended)",
    "processes": "(stopped: the action used more than 40 processes at one time; all its processes were ended)",
    "cpu": "(stopped: the action used more than 1 s of processor time; all its processes were ended)",
    "disk": "(stopped: the action wrote more than 8 MiB to disk; all its processes were ended)",
}
# Each bomb is bounded by itself too, should no limit hold.
PROGRAMS = {
    "hold.py": "import sys, time\nkept = b'x' * (int(sys.argv[1]) << 20)\ntime.sleep(20)\n",
    "burn.py": "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass\n",
    "use.py": "import os, signal, sys, time\nif sys.argv[1:]:\n    signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
              "    if os.fork():\n        time.sleep(1)\n        os._exit(0)\n"
              "while time.process_time() < 0.3: pass\n",
    "files.py": "for n in range(2500):\n    with open(f'many/{n}', 'w') as file:\n        file.write('x')\n",
    "forks.py": "import os, time\nfor _ in range(400):\n    if not os.fork():\n        time.sleep(20)\n"
                "        os._exit(0)\ntime.sleep(20)\n",
    "threads.py": "import threading, time\nthreading.stack_size(1 << 16)\n"
                  "for _ in range(200): threading.Thread(target=time.sleep, args=(20,)).start()\n",
    "shared.py": "import mmap, os, time\nmemory = mmap.mmap(-1, 200 << 20)\n"
                 "for _ in range(200): memory.write(b'x' * (1 << 20))\nfor _ in range(3): os.fork()\n"
                 "sum(memory[n] for n in range(0, 200 << 20, 4096))\ntime.sleep(0.5)\n",
    "secret.py": "import os, time\nfor n in range(8):\n    fd = os.memfd_create('m')\n"
                 "    os.posix_fallocate(fd, 0, 60 << 20)\ntime.sleep(20)\n",
    "deleted.py": "import os, time\nfor n in range(2):\n    fd = os.open('gone', os.O_CREAT | os.O_RDWR)\n"
                  "    os.unlink('gone')\n    os.posix_fallocate(fd, 0, 15 << 20)\ntime.sleep(20)\n",
    "deep.py": "import os, time\nfor n in range(60):\n    os.mkdir('d' * 100)\n    os.chdir('d' * 100)\n"
               "open('f', 'wb').write(bytes(25 << 20))\ntime.sleep(20)\n",
}


@pytest.fixture(params=BACKENDS)
def patient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sandbox]:
    """With processor time for what a slow machine takes to reach another limit."""
    yield from open_with(tmp_path, backend=request.param, cpu_s=60)


@pytest.fixture(params=BACKENDS)
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sandbox]:
    yield from open_with(tmp_path, backend=request.param)


@pytest.fixture
def confined(tmp_path: Path) -> Iterator[Sandbox]:
    yield from open_with(tmp_path, backend="bwrap")


def open_with(folder: Path, **changed: object) -> Iterator[Sandbox]:
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
    with open_sandbox(folder, SandboxParams(**{**SMALL, **changed})) as sandbox:
        yield sandbox


def check_stopped(session: Sandbox, result: Result, limit: str) -> None:
    """It was stopped for this limit alone, long before its own end, and the session goes on."""
    assert result.limit == limit, result
    assert result.output.rstrip("\n").split("\n")[-1] == SAID[limit]
    assert (result.exit_code, result.timed_out) == (None, False)
    assert result.seconds < 15
    after = session.run("ls hold.py; jobs; pwd", 5)
    assert (after.output, after.limit) == ("hold.py\n/home/agent/workspace\n", "")


def test_memory_is_limited_in_sum(session: Sandbox) -> None:
    result = session.run("echo begun; for n in 1 2 3 4 5 6; do python hold.py 70 & done; wait", 30)
    check_stopped(session, result, "memory")
    assert result.output.startswith("begun\n")
    assert session.run("python hold.py 70 & sleep 0.3; kill %1; echo fits", 10).output.startswith("fits\n")


def test_what_processes_share_counts_once(session: Sandbox) -> None:
    assert session.run("python shared.py", 20).limit == ""


@needs_bwrap
@pytest.mark.parametrize("command, limit", [
    ("python secret.py", "memory"),
    ("head -c 16M /dev/zero > /tmp/a; head -c 16M /dev/zero > ~/b; sleep 20", "disk"),
    ("mkdir shut; head -c 25M /dev/zero > shut/f; chmod 0 shut; sleep 20", "disk"),
    ("python deleted.py", "disk"), ("python deep.py", "disk"),
])
def test_what_is_out_of_sight_counts(confined: Sandbox, command: str, limit: str) -> None:
    check_stopped(confined, confined.run(command, 30), limit)


@pytest.mark.parametrize("program", ["forks.py", "threads.py"])
def test_processes_are_limited(patient: Sandbox, program: str) -> None:
    check_stopped(patient, patient.run(f"python {program}", 30), "processes")


@needs_bwrap
def test_a_fork_bomb_ends(confined: Sandbox) -> None:
    check_stopped(confined, confined.run(":() { :|:& }; :; sleep 20", 30), "processes")
    assert confined.run("ps ax | wc -l", 5).output == "5\n"


def test_processor_time_is_limited_in_sum(session: Sandbox) -> None:
    check_stopped(session, session.run("for n in 1 2 3 4; do python burn.py & done; wait", 30), "cpu")
    assert 1 <= session.cpu_seconds < 5
    check_stopped(session, session.run("for n in 1 2 3 4; do python burn.py & done; wait", 30), "cpu")
    assert 3 <= session.cpu_seconds < 9


def test_processor_time_of_what_has_ended_counts_once(session: Sandbox) -> None:
    session.run("python use.py; python use.py", 20)
    used = session.cpu_seconds
    assert 0.5 <= used < 1.2
    # Nobody waits for this one's child.
    session.run("python use.py apart", 20)
    assert 0.2 <= session.cpu_seconds - used < 0.6


@pytest.mark.parametrize("fill", ["python files.py; sleep 20", "head -c 30M /dev/zero > many/big; sleep 20"])
def test_disk_is_limited_and_can_be_freed(patient: Sandbox, fill: str) -> None:
    check_stopped(patient, patient.run(f"mkdir many; {fill}", 60), "disk")
    # Still full: what does not make it fuller is let be.
    assert patient.run("sleep 0.8; echo still here", 10).output == "still here\n"
    assert patient.run("rm -r many; sleep 0.8; head -c 5M /dev/zero > big; sleep 0.6; ls big", 10).output == "big\n"


def test_an_output_flood_keeps_head_and_tail(session: Sandbox) -> None:
    result = session.run("echo first; head -c 30M /dev/zero | tr '\\0' 'x'; echo; echo last", 20)
    lines = result.output.split("\n")
    assert (lines[0], lines[-2], result.limit) == ("first", "last", "")
    assert "bytes of output left out ...]" in result.output
    assert len(result.output) < 10_000


def test_open_files_are_limited(session: Sandbox) -> None:
    program = "kept = [open('/dev/null') for _ in range(100)]"
    assert "Too many open files" in session.run(f'python -c "{program}"', 10).output


def test_what_runs_in_the_background_is_stopped_and_told(session: Sandbox) -> None:
    assert session.run("(sleep 0.2; exec python forks.py) & echo begun", 5).output == "begun\n"
    wait_for_new_shell(session)
    result = session.run("echo next", 5)
    assert (result.output, result.limit) == (f"{SAID['processes']}\nnext\n", "processes")
    assert session.run("echo again", 5).output == "again\n"


def wait_for_new_shell(session: Sandbox) -> None:
    """Until the guest has replaced bash, as seen from outside."""
    guest = find_guest(session._process.pid)
    first = children(guest)
    end = time.monotonic() + 15
    while time.monotonic() < end and (children(guest) == first or len(children(guest)) != 1):
        os.sched_yield()


def find_guest(pid: int) -> int:
    below = children(pid)
    return below[0] if below and "guest" in Path(f"/proc/{below[0]}/cmdline").read_text() else pid


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("stopped", ["sleep 20", "while :; do :; done", "read x < <(sleep 20)"])
def test_variables_outlive_what_was_stopped(session: Sandbox, stopped: str) -> None:
    session.run("plain='a b'; export SEEN=yes; list=(1 '2 3'); greet() { echo hello $1; }", 5)
    session.run("shopt -s nullglob; set -u", 5)
    assert session.run(f"mkdir -p sub; cd sub; {stopped}", 0.4).timed_out
    said = session.run("echo $plain $(printenv SEEN) ${list[1]}; greet you; echo *.none; pwd; echo $unset", 5).output
    assert said.split("\n")[:4] == ["a b yes 2 3", "hello you", "", "/home/agent/workspace/sub"]
    assert "unbound variable" in said


@needs_bwrap
def test_memory_shared_with_the_warm_interpreter_does_not_count(tmp_path: Path) -> None:
    """Five of them have more than the limit, each by itself; and they are stopped when it is their own."""
    program = ("import sys, time, pandas as pd\nframe = pd.DataFrame({'a': range(1000)})\nprint(frame.a.sum())\n"
               "kept = b'x' * (int(sys.argv[1]) << 20)\ntime.sleep(float(sys.argv[2]))\n")
    (tmp_path / "warm.py").write_text(program)
    (tmp_path / "use.py").write_text(PROGRAMS["use.py"])
    params = SandboxParams(memory_mb=260, warm_modules=["pandas", "sklearn.ensemble"])
    with open_sandbox(tmp_path, params) as sandbox:
        assert sandbox.cold_reason == ""
        together = "for n in 1 2 3 4 5; do python warm.py {} {} & done; wait"
        result = sandbox.run(together.format(1, 0.5), 20)
        assert (result.output, result.limit) == ("499500\n" * 5, "")
        assert sandbox.run(together.format(45, 15), 20).limit == "memory"
        used = sandbox.cpu_seconds
        sandbox.run("python use.py", 20)
        assert 0.2 <= sandbox.cpu_seconds - used < 0.6
