"""The lock of a run, between real processes: one writes at a time, and the lock goes with the last that holds it."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kits.chain_kit import finish_stage

from synthkit.core import lock
from synthkit.core.errors import StageError
from synthkit.core.lock import INHERITED, hold_run, lock_environment
from synthkit.core.opening import open_stage
from synthkit.core.stage import Stage, under_lock

HOLD = """
import sys
from pathlib import Path
from synthkit.core.lock import hold_run
with hold_run(Path(sys.argv[1]), "a test"):
    {inside}
    print("in", flush=True)
    sys.stdin.readline()
"""
OPEN = """
import sys
from synthkit.core.opening import open_stage
stage = open_stage("01_topics", {"run_dir": sys.argv[1]})
print("in", flush=True)
sys.stdin.readline()
"""

ASK = """
import sys
from pathlib import Path
from synthkit.core.errors import StageError
from synthkit.core.lock import hold_run
try:
    with hold_run(Path(sys.argv[1]), "a question"):
        print("free")
except StageError:
    print("taken")
"""
KERNEL = """
import os, subprocess, sys
from synthkit.core.opening import open_stage
open_stage("01_topics", {"run_dir": sys.argv[1]})
child = subprocess.Popen(["sleep", "600"], close_fds=False)
print(os.getpid(), child.pid, flush=True)
child.wait()
"""
RUNNER = """
import os, subprocess, sys
from pathlib import Path
from synthkit.core.lock import hold_run, lock_environment
run = Path(sys.argv[1])
with hold_run(run, "a runner") as fd:
    kernel = subprocess.Popen([sys.executable, "-c", KERNEL, str(run)], stdout=subprocess.PIPE, text=True,
                              pass_fds=(fd,), env=os.environ | lock_environment(run, fd))
    (run / "pids").write_text(kernel.stdout.readline())
    print("in", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@contextmanager
def process(code: str, *args: str, **more: object) -> "Iterator[subprocess.Popen[str]]":
    """A process that has said that it is in; it ends when its input does."""
    child = subprocess.Popen([sys.executable, "-c", code, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, **more)
    try:
        assert child.stdout and child.stdout.readline().split()[:1] == ["in"], child.communicate()[1]
        yield child
    finally:
        child.communicate("\n", timeout=300)


def is_free(run: Path) -> bool:
    try:
        with hold_run(run, "a question"):
            return True
    except StageError:
        return False


def test_a_second_process_is_refused_and_told_who_is_there(run: Path) -> None:
    with process(HOLD.format(inside="pass"), str(run)) as other:
        cause = rf"another process is at work in .*run \(pid {other.pid}: a test\)"
        with pytest.raises(StageError, match=cause) as caught:
            with hold_run(run, "mine"):
                pass
        assert "--run NAME" in caught.value.fix
        with pytest.raises(StageError, match="another process is at work"):
            open_stage("01_topics", {"run_dir": str(run)})
        assert not (run / "01_topics").exists()
    assert is_free(run)


def test_two_processes_cannot_both_write(run: Path) -> None:
    """Stages opened by both, for nobody holds a lock while idle; then each is refused while the other works."""
    stage = open_stage("01_topics", {"run_dir": str(run)})

    @under_lock
    def work(stage: Stage, text: str) -> str:
        (stage.dir / "topics.jsonl").write_text(text)
        return text

    code = OPEN.replace('print("in"', 'held = stage.hold()\nheld.__enter__()\nprint("in"')
    with process(OPEN, str(run)):
        assert work(stage, "idle, so mine") == "idle, so mine"
    with process(code, str(run)):
        for attempt in (lambda: work(stage, "not mine"), lambda: stage.finish(1, 1, {}), stage.reopen):
            with pytest.raises(StageError, match="another process is at work in .*: 01_topics"):
                attempt()
    assert (stage.dir / "topics.jsonl").read_text() == "idle, so mine"
    assert stage.finish(1, 1, {})["kept"] == 1


def test_a_complete_stage_opens_while_another_process_works(run: Path) -> None:
    record = finish_stage(run, "01_topics", "done\n")
    with process(HOLD.format(inside="pass"), str(run)):
        stage = open_stage("01_topics", {"run_dir": str(run)})
        assert stage.finished and stage.input("01_topics") == run / "01_topics"
        with pytest.raises(StageError, match="another process"):
            open_stage("02_datasets", {"run_dir": str(run)})
    assert record["kept"] == 1


def test_a_killed_holder_leaves_the_lock_free_whatever_it_started(run: Path) -> None:
    inside = ("import os, subprocess; child = subprocess.Popen(['sleep', '600'], close_fds=False); "
              "forked = os.fork()\n    if not forked:\n        import time; time.sleep(600); os._exit(0)\n"
              "    Path(sys.argv[1], 'pids').write_text(f'{child.pid} {forked}')")
    with process(HOLD.format(inside=inside), str(run)) as other:
        assert not is_free(run)
        other.send_signal(signal.SIGKILL)
        other.wait(300)
        pids = [int(pid) for pid in (run / "pids").read_text().split()]
        try:
            assert all(Path(f"/proc/{pid}").exists() for pid in pids) and is_free(run)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)


def ask(run: Path, **more: object) -> str:
    """What a process of its own finds: whether the lock is free for it."""
    done = subprocess.run([sys.executable, "-c", ASK, str(run)], capture_output=True, text=True, timeout=300, **more)
    return done.stdout.strip() or done.stderr


def test_within_a_process_it_is_counted(run: Path) -> None:
    inside, go = threading.Event(), threading.Event()

    def work() -> None:
        with hold_run(run, "a thread"):
            inside.set()
            go.wait(300)

    thread = threading.Thread(target=work)
    with hold_run(run, "outside"):
        with hold_run(run, "inside"):
            thread.start()
            assert inside.wait(300)
        assert run.resolve() in lock._held
    assert run.resolve() in lock._held and ask(run) == "taken", "the thread is still inside"
    go.set()
    thread.join(300)
    assert run.resolve() not in lock._held and ask(run) == "free"


def test_a_kernel_holds_the_lock_on_when_its_runner_is_killed(run: Path) -> None:
    runner = RUNNER.replace("KERNEL", repr(KERNEL))
    with process(runner, str(run)) as parent:
        kernel, child = (int(pid) for pid in (run / "pids").read_text().split())
        try:
            assert (run / "01_topics" / "opened.json").exists(), "the kernel works under the runner's lock"
            assert ask(run) == "taken"
            parent.send_signal(signal.SIGKILL)
            parent.wait(300)
            with pytest.raises(StageError, match=rf"pid {kernel}: its notebook's kernel"):
                with hold_run(run, "too early"):
                    pass
            os.kill(kernel, signal.SIGKILL)
            wait_for_end(kernel)
            assert ask(run) == "free" and Path(f"/proc/{child}").exists()
        finally:
            os.kill(child, signal.SIGKILL)


def wait_for_end(pid: int) -> None:
    """Until a process that is no child of this one has closed all it had open."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([watched], [], [], 300)[0]
    os.close(watched)


def test_a_variable_that_lies_is_not_believed(run: Path, tmp_path: Path) -> None:
    with hold_run(run, "mine") as fd, (tmp_path / "other").open("w") as other:
        for number, fds in ((fd, ()), (other.fileno(), (other.fileno(),)), (987654, ()), ("x", ())):
            assert ask(run, pass_fds=fds, env=os.environ | {INHERITED: f"{number}:{run}"}) == "taken"
        assert ask(run, pass_fds=(fd,), env=os.environ | lock_environment(run, fd)) == "free"
        assert ask(run) == "taken", "what inherited the lock did not give it away"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match="cannot be opened"):
        with hold_run(tmp_path / "file", "mine"):
            pass
