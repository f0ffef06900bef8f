"""Nothing of an environment is left: no process, no mount, no file, no descriptor, no thread; some are killed by force.

`make test` opens 40 environments, `make soak` 400 (SYNTHKIT_SOAK), and a tree that takes half a minute to delete.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kits.checkout_kit import write_checkout
from kits.places import ROOT

from synthkit.core.params import SandboxParams
from synthkit.gym.environment import Environment
from synthkit.gym.sandbox import open_sandbox
from synthkit.gym.sandbox.folders import read_namespace, sweep_folders
from synthkit.gym.task import Task

pytestmark = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
COUNT = int(os.environ.get("SYNTHKIT_SOAK", "40"))
PARAMS = SandboxParams(warm_modules=["json"])
KIT = """
import sys
from pathlib import Path
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import open_sandbox
DAEMON = "mkfifo up; setsid sh -c 'echo > up; exec sleep 4321' & read < up"
for name in sys.argv[1:]:
    Path(name).mkdir()
    open_sandbox(Path(name), SandboxParams(warm_modules=["json"])).__enter__().run(DAEMON, 300)
print("up", flush=True)
input()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder


def list_processes(token: str) -> dict[int, str]:
    """Command lines of the processes, by id, that see a folder whose path holds `token`, or name it themselves.

    A sandbox's mounts tell the folders that it was given, also of what it hides from /proc; nobody else's do.
    """
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
            if token in command or token in (entry / "mountinfo").read_text():
                found[int(entry.name)] = command
        except OSError:
            continue
    return found


def list_below(pid: int) -> list[int]:
    """Children and theirs, those included that have ended and were not waited for."""
    children = [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in read(path).split()]
    return children + [below for child in children for below in list_below(child)]


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def name_uniquely(folder: Path) -> str:
    """The end of a path that its mounts show too, wherever the file system is mounted."""
    return "/".join(folder.parts[-3:])


def take_stock(token: str) -> dict[str, object]:
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if token in line]
    return {"mounts": mounts, "processes": list_processes(token),
            "below": len(list_below(os.getpid())), "threads": threading.active_count(),
            "descriptors": len(os.listdir("/proc/self/fd"))}


def kill_guest(workspace: Path) -> None:
    """As another program of the same user could, from outside of the sandbox."""
    guests = [pid for pid, command in list_processes(str(workspace)).items()
              if "guest.pyc" in command and "bwrap" not in command.split()[0]]
    assert len(guests) == 1
    os.kill(guests[0], signal.SIGKILL)


def play(number: int, task: Task) -> None:
    """One environment's life; every kind of end has its turn."""
    with Environment(task, PARAMS, max_steps=9) as env:
        env.reset()
        env.step(f"echo {number} > f; setsid sleep 4321 & python -c 'print(1)'")
        if number % 6 == 1:
            env.sandbox._process.kill()
        elif number % 6 == 5:
            kill_guest(env.workspace)
        elif number % 6 == 2:
            env.step("mkdir -p a/b; ln -s / root; mkfifo pipe; chmod 000 a; chmod 500 .")
        elif number % 6 == 3:
            env.step("kill -9 -1")
        elif number % 6 == 4:
            assert env.step("validate")[0].startswith("Your submission")
            return
        # A session that was killed is replaced, which the action that finds it dead is told; files are kept.
        assert any(str(number) in env.step("cat f")[0].splitlines() for _ in range(2))


def test_environments_leave_nothing(tmp_path: Path, temporary: Path) -> None:
    task, token = Task.load(write_checkout(tmp_path / "checkout"), "battleOfSexes"), name_uniquely(temporary)
    with ThreadPoolExecutor(8) as pool:
        # What lasts as long as the kit (the warm interpreter, the spawning thread) is there before stock is taken.
        list(pool.map(lambda number: play(number, task), range(8)))
        before = take_stock(token)
        list(pool.map(lambda number: play(number, task), range(COUNT)))
        after = take_stock(token)
    assert after == before
    assert [command for command in after["processes"].values() if "zygote.pyc" not in command] == []
    assert list(temporary.iterdir()) == []


def test_a_kit_that_is_killed_takes_its_processes_along_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    names = [str(tmp_path / f"w{number}") for number in range(4)]
    kit = subprocess.Popen([sys.executable, "-c", KIT, *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           cwd=ROOT, env=environment)
    assert kit.stdout.readline() == b"up\n"
    processes = list_processes(name_uniquely(tmp_path))
    del processes[kit.pid]
    below = [os.pidfd_open(pid) for pid in processes]
    assert sum("sleep 4321" in command for command in processes.values()) == 4 and list(temporary.iterdir())
    kit.kill()
    kit.communicate()
    for process in below:
        assert select.select([process], [], [], 300)[0]
    code = "from synthkit.gym.sandbox.folders import sweep_folders; sweep_folders()"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=ROOT)
    assert list(temporary.iterdir()) == []


def test_a_sweep_takes_only_what_a_dead_kit_left(tmp_path: Path, temporary: Path) -> None:
    workspace = tmp_path / "workspace"
    others = [temporary / name for name in ("other-file", "synthkit-notes", "synthkit-1-2-3-in-another-namespace")]
    dead = temporary / f"synthkit-{read_namespace()}-{os.getpid()}-1-an-earlier-process-of-this-number"
    for folder in [workspace, dead, *others]:
        folder.mkdir()
    with open_sandbox(workspace, PARAMS) as sandbox:
        sweep_folders()
        assert sandbox.run("python -c 'print(2)'", 300).output == "2\n"
        assert [folder.exists() for folder in [dead, *others]] == [False, True, True, True]


@pytest.mark.skipif(COUNT < 400, reason="run by `make soak`")
def test_a_tree_deeper_than_python_goes_is_deleted_and_not_taken_along(tmp_path: Path, temporary: Path) -> None:
    task = Task.load(write_checkout(tmp_path / "checkout"), "battleOfSexes")
    with Environment(task, PARAMS, max_steps=9) as env:
        env.reset()
        env.step("for i in $(seq 1500); do mkdir d; cd d; done; touch x; chmod 000 .")
        assert "nested too deeply" in env.step("validate")[0]
        assert "nested too deeply" in env.step("find_file x ~/workspace")[0]
    assert list(temporary.iterdir()) == []
