"""Nothing of an environment is left: no process, no mount, no file, no descriptor, no thread; some are killed by force.

`make test` opens 40 environments, `make soak` 400 (SYNTHKIT_SOAK).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkout_kit import write_checkout

from synthkit.core.params import SandboxParams
from synthkit.gym.environment import Environment
from synthkit.gym.sandbox import open_sandbox
from synthkit.gym.task import Task

pytestmark = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
COUNT = int(os.environ.get("SYNTHKIT_SOAK", "40"))
PARAMS = SandboxParams(warm_modules=["json"])
KIT = """
import sys
from pathlib import Path
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import open_sandbox
for name in sys.argv[1:]:
    Path(name).mkdir()
    open_sandbox(Path(name), SandboxParams(warm_modules=["json"])).__enter__().run("setsid sleep 4321 &", 10)
print("up", flush=True)
input()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder


def list_processes() -> set[int]:
    """Processes in another PID namespace than this one, and all that was started from here."""
    found = set()
    own = os.readlink("/proc/self/ns/pid")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns/pid") != own and (entry / "stat").read_text().rsplit(")")[1].split()[0] != "Z":
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def list_children() -> list[str]:
    return " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split()


def take_stock() -> dict[str, object]:
    return {"mounts": Path("/proc/self/mountinfo").read_text(),
            "threads": threading.active_count(),
            "processes": list_processes(),
            "children": len(list_children()), "descriptors": len(os.listdir("/proc/self/fd"))}


def play(number: int, task: Task) -> None:
    """One environment's life; every kind of end has its turn."""
    with Environment(task, PARAMS, max_steps=9) as env:
        env.reset()
        env.step(f"echo {number} > f; setsid sleep 4321 & python -c 'print(1)'")
        if number % 5 == 1:
            env.sandbox._process.kill()
            assert "a new one was started" in env.step("echo lost")[0]
        elif number % 5 == 2:
            env.step("mkdir -p a/b; ln -s / root; mkfifo pipe; chmod 000 a; chmod 500 .")
        elif number % 5 == 3:
            env.step("kill -9 -1")
        elif number % 5 == 4:
            assert env.step("validate")[0].startswith("Your submission")
            return
        assert env.step("cat f")[0].splitlines()[-1] == str(number)


def test_environments_leave_nothing(tmp_path: Path, temporary: Path) -> None:
    task = Task.load(write_checkout(tmp_path / "checkout"), "battleOfSexes")
    with ThreadPoolExecutor(8) as pool:
        # What lasts as long as the kit (the warm interpreter, the spawning thread) is there before stock is taken.
        list(pool.map(lambda number: play(number, task), range(8)))
        before = take_stock()
        list(pool.map(lambda number: play(number, task), range(COUNT)))
        after = take_stock()
    assert after == before
    assert list(temporary.iterdir()) == []


def test_a_kit_that_is_killed_takes_its_processes_along_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    temporary, before = tmp_path / "tmp", list_processes()
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    names = [str(tmp_path / f"w{number}") for number in range(4)]
    kit = subprocess.Popen([sys.executable, "-c", KIT, *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           cwd=Path(__file__).parents[1], env=environment)
    assert kit.stdout.readline() == b"up\n"
    below = [os.pidfd_open(pid) for pid in list_processes() - before]
    assert len(below) >= 8 and list(temporary.iterdir())
    kit.kill()
    kit.communicate()
    import select
    for process in below:
        assert select.select([process], [], [], 10)[0]
    code = "from synthkit.gym.folders import sweep_folders; sweep_folders()"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[1])
    assert list(temporary.iterdir()) == []


def test_a_sweep_leaves_what_is_in_use(tmp_path: Path, temporary: Path) -> None:
    from synthkit.gym.folders import sweep_folders

    foreign = temporary / "other-file"
    foreign.mkdir()
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with open_sandbox(workspace, PARAMS) as sandbox:
        sweep_folders()
        assert sandbox.run("python -c 'print(2)'", 20).output == "2\n" and foreign.exists()
