"""What a sandbox lets its code see and do, and that nothing of one is left behind."""

import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kits.places import ROOT

from synthkit.core.errors import SandboxError
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Sandbox, open_sandbox

PARAMS = SandboxParams(warm=False)
HANG_S = 300
needs_bwrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with open_sandbox(tmp_path_factory.mktemp("workspace"), PARAMS) as sandbox:
        yield sandbox


def run(sandbox: Sandbox, command: str) -> str:
    return sandbox.run(command, HANG_S).output.strip()


@needs_bwrap
@pytest.mark.parametrize("path", [Path.home() / ".ssh", ROOT / "synthkit", ROOT / "outputs", ROOT / "tests",
                                  Path("/etc/shadow"), Path("/var"), Path("/sys")])
def test_the_host_is_not_there(confined: Sandbox, path: Path) -> None:
    assert run(confined, f"ls -d {path} 2>&1 | grep -c 'No such file'") == "1"


@needs_bwrap
def test_a_file_in_the_hosts_temporary_folder_is_not_there(confined: Sandbox) -> None:
    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).exists()
        assert run(confined, f"ls -d {file.name} 2>&1 | grep -c 'No such file'") == "1"


@needs_bwrap
def test_home_shows_at_most_the_interpreter(confined: Sandbox) -> None:
    shown = run(confined, f"find {Path.home()} -maxdepth 2 -type f 2>/dev/null")
    assert shown == ""


@needs_bwrap
def test_nothing_of_the_environment_comes_in(confined: Sandbox, monkeypatch: pytest.MonkeyPatch,
                                             tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with open_sandbox(tmp_path, PARAMS) as sandbox:
        assert "secret" not in run(sandbox, "env; cat /proc/*/environ /proc/*/cmdline 2>&1")
        assert str(ROOT / "synthkit") not in run(sandbox, "ps axww; cat /proc/self/mountinfo")


@needs_bwrap
@pytest.mark.parametrize("attempt", [
    "touch /x", "touch /usr/x", "touch /dev/x", "touch /run/synthkit/x", "touch /opt/python/x", "echo >/etc/passwd",
    "mount -t tmpfs none /mnt", "unshare -U true", "unshare -n true", "chroot / true", "mknod null c 1 3",
    "cat /proc/sys/kernel/panic > /proc/sys/kernel/panic", "echo h >/proc/sysrq-trigger",
    "echo >/dev/tcp/127.0.0.1/80", "umount /tmp", "chown 0 .", "dmesg",
])
def test_what_is_not_allowed(confined: Sandbox, attempt: str) -> None:
    result = confined.run(attempt, HANG_S)
    assert result.exit_code not in (0, None), result.output


@needs_bwrap
def test_devices_are_its_own(confined: Sandbox) -> None:
    run(confined, "chmod 600 /dev/null; chmod 666 /dev/null; touch -d 2001-01-01 /dev/zero")
    assert Path("/dev/zero").stat().st_mtime > 1e9
    assert run(confined, "echo x > /dev/null; head -c 3 /dev/zero | wc -c; echo x > /dev/full") .startswith("3\nbash")


@needs_bwrap
def test_there_is_no_network_but_loopback(confined: Sandbox) -> None:
    assert run(confined, "tail -n +3 /proc/net/dev | cut -d: -f1 | xargs") == "lo"


@needs_bwrap
def test_a_process_has_no_rights(confined: Sandbox) -> None:
    status = run(confined, "grep -E 'Cap|NoNewPrivs' /proc/self/status | cut -f2 | sort -u | xargs")
    assert status == "0000000000000000 1"
    assert run(confined, "id -u; whoami; ulimit -c -n -u") .split("\n")[:2] == ["1000", "agent"]


@needs_bwrap
def test_memory_is_limited(tmp_path: Path) -> None:
    with open_sandbox(tmp_path, SandboxParams(warm=False, memory_mb=300, file_mb=1)) as sandbox:
        assert "MemoryError" in run(sandbox, "python -c 'bytearray(400 << 20)'")
        assert sandbox.run("head -c 2000000 /dev/zero > /tmp/full", HANG_S).exit_code != 0


@needs_bwrap
def test_no_process_and_no_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, temporary = tmp_path / "workspace", tmp_path / ("long" * 30)
    workspace.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with open_sandbox(workspace, SandboxParams(warm_modules=["json"])) as sandbox:
        assert sandbox.cold_reason == ""
        assert run(sandbox, "python -c 'print(1)'") == "1"
        start_daemons(sandbox, "12321")
        assert len(find_processes("12321")) == 2
    assert len(find_processes("12321")) == 0
    assert list(temporary.iterdir()) == list(workspace.iterdir()) == []


def test_the_bare_backend_leaves_no_process_either(tmp_path: Path) -> None:
    with open_sandbox(tmp_path, SandboxParams(backend="process", warm=False)) as sandbox:
        start_daemons(sandbox, "12322")
        assert len(find_processes("12322")) == 2
    assert len(find_processes("12322")) == 0


def start_daemons(sandbox: Sandbox, argument: str) -> None:
    """Two, and wait until they have become what they are to be."""
    sandbox.run(f"for how in setsid 'setsid nohup'; do $how sleep {argument} & done; "
                f"until [ $(pgrep -fc 'sleep {argument}') = 2 ]; do :; done", HANG_S)


def find_processes(argument: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [int(path.parent.name)] if argument.encode() in path.read_bytes().split(b"\0") else []
        except OSError:
            continue
    return found


@needs_bwrap
def test_a_sandbox_outlives_the_thread_that_opened_it(tmp_path: Path) -> None:
    sandbox = open_sandbox(tmp_path, PARAMS)
    thread = threading.Thread(target=sandbox.start)
    thread.start()
    thread.join()
    assert run(sandbox, "echo alive") == "alive"
    sandbox.stop()


@needs_bwrap
def test_many_at_once(tmp_path: Path) -> None:
    said: dict[int, str] = {}

    def play(number: int) -> None:
        (tmp_path / str(number)).mkdir()
        with open_sandbox(tmp_path / str(number), PARAMS) as sandbox:
            said[number] = "".join(run(sandbox, f"echo {number} >> f; cat f") for _ in range(3))

    threads = [threading.Thread(target=play, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {n: f"{n}{n}\n{n}{n}\n{n}\n{n}" for n in range(8)}


@needs_bwrap
def test_the_kit_takes_its_sandboxes_with_it(tmp_path: Path) -> None:
    program = ("import sys, pathlib\nfrom synthkit.core.params import SandboxParams\n"
               "from synthkit.gym.sandbox import open_sandbox\n"
               "sandbox = open_sandbox(pathlib.Path(sys.argv[1]), SandboxParams(warm_modules=[]))\n"
               "sandbox.start(); sandbox.cold_reason\n"
               "sandbox.run('setsid sleep 12323 & until pgrep -f 12323; do :; done', 300)\n"
               "print('up', flush=True); input()\n")
    kit = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT,
                           env={**os.environ, "TMPDIR": str(tmp_path)})
    assert kit.stdout.readline() == b"up\n"
    below = [os.pidfd_open(pid) for pid in [*find_children(kit.pid), *find_processes("12323")]]
    assert len(below) == 3
    kit.kill()
    kit.communicate()
    for process in below:
        assert select.select([process], [], [], HANG_S)[0]


def find_children(pid: int) -> list[int]:
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for child in text.split()]


def test_without_bubblewrap_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="not installed") as error:
        open_sandbox(tmp_path, PARAMS).start()
    assert "install bubblewrap" in error.value.fix


@needs_bwrap
def test_a_failing_bubblewrap_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="No permissions to create new namespace"):
        open_sandbox(tmp_path, PARAMS).start()
