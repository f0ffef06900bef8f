"""podman and docker: what an engine is asked for, and a real session where an engine and an image can be had."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthkit.core.errors import SandboxError
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Sandbox, open_sandbox
from synthkit.gym.sandbox.backends.bwrap import find_interpreter_folders
from synthkit.gym.sandbox.backends.containers import build_arguments

IMAGE = "localhost/synthkit-test"
SYSTEM = ("bin/bash", "bin/sh", "bin/tar", "bin/ls", "bin/cat", "bin/sleep", "bin/touch", "bin/mount", "usr/bin/id",
          "usr/bin/pgrep", "usr/bin/env")


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_an_engine_is_asked_to_confine(engine: str, tmp_path: Path) -> None:
    params = SandboxParams(backend=engine, image="some/image:1", memory_mb=500, processes=50, gpus=True)
    args = build_arguments("name", tmp_path / "work", tmp_path / "tools", params)
    said = " ".join(args)
    for part in ("--network none", "--cap-drop ALL", "--security-opt no-new-privileges", "--read-only", "--rm",
                 "--pull never", "--memory 500m", "--pids-limit 200", f"--volume {tmp_path}/tools:/run/synthkit:ro",
                 "--gpus all" if engine == "docker" else "--device nvidia.com/gpu=all"):
        assert part in said
    assert args[-3:] == ["some/image:1", "-ES", "/run/synthkit/guest.py"]
    assert not any("KEY" in arg or str(Path.home()) in arg for arg in args)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="podman is not installed") as error:
        open_sandbox(tmp_path, SandboxParams(backend="podman", image="a/b")).start()
    assert "podman pull a/b" in error.value.fix
    with pytest.raises(ValueError, match="needs an image"):
        SandboxParams(backend="podman")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of this machine's shell and Python, in a storage of the test's own."""
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    folder = tmp_path_factory.mktemp("podman")
    settings = folder / "containers.conf"
    runtime = next(filter(shutil.which, ("runc", "crun")), "runc")
    settings.write_text(f'[engine]\nruntime = "{runtime}"\nevents_logger = "file"\n')
    storage = folder / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(settings))
        patch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
        write_image(folder / "image.tar")
        made = subprocess.run(["podman", "import", str(folder / "image.tar"), IMAGE], capture_output=True, text=True)
        command = ["podman", "run", "--rm", "--pull", "never", "--network", "none", "--ulimit", "nofile=64:64",
                   "--ulimit", "nproc=999:999", IMAGE, "python3", "-V"]
        tried = subprocess.run(command, capture_output=True, text=True)
        if tried.returncode:
            pytest.skip(f"podman runs no container here: {(made.stderr + tried.stderr).strip()[-300:]}")
        yield IMAGE
        subprocess.run(["podman", "system", "reset", "--force"], capture_output=True)


def write_image(path: Path) -> None:
    """Programs with the libraries that they load, and the Python that runs this."""
    base = Path(os.path.realpath(sys.executable))
    files = {f"/{name}" for name in SYSTEM if Path(f"/{name}").exists()} | {str(base)}
    library = base.parent.parent / "lib"
    modules = (library / f"python3.{sys.version_info.minor}" / "lib-dynload").glob("*.so")
    for name in (*files, *map(str, modules)):
        loaded = subprocess.run(["ldd", name], capture_output=True, text=True).stdout.split()
        files |= {word for word in loaded if word.startswith("/")}
    files |= set(map(str, library.glob("libpython3*.so*")))
    with tarfile.open(path, "w", dereference=True) as tar:
        for name in sorted(files):
            tar.add(name, arcname=name.lstrip("/"))
        version = f"python3.{sys.version_info.minor}"
        tar.add(library / version, arcname=str(library / version).lstrip("/"), filter=leave_out)
        link = tarfile.TarInfo("usr/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, str(base)
        tar.addfile(link)


def leave_out(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(entry.name).parts
    return None if {"site-packages", "test", "__pycache__", "idlelib", "tkinter"} & set(parts) else entry


@pytest.fixture
def session(image: str, tmp_path: Path) -> Iterator[Sandbox]:
    with open_sandbox(tmp_path, SandboxParams(backend="podman", image=image, processes=40)) as sandbox:
        yield sandbox


def test_a_session_in_a_container(session: Sandbox, tmp_path: Path) -> None:
    assert session.run("x=5; cd /tmp; echo $x > f", 300).exit_code == 0
    assert session.run("echo $x; pwd; cat f", 300).output == "5\n/tmp\n5\n"
    session.run("cd ~/workspace; touch here", 300)
    assert session.run("(exit 3)", 300).exit_code == 3 and session.run("exit 4", 300).exit_code == 4
    assert session.run("sleep 600", 1).timed_out and session.run("ls", 300).output == "here\n"
    session.call("create", ["a.py"])
    assert "F821" in session.call("edit", ["1:1"], "print(nothing)").output
    assert (tmp_path / "here").stat().st_uid == os.geteuid()
    assert session.cold_reason != ""


@pytest.mark.parametrize("attempt", ["echo > /etc/x", "mount -t tmpfs none /mnt", "echo >/dev/tcp/127.0.0.1/80",
                                     "cat /run/synthkit/../../home/*/.ssh/id", "touch /run/synthkit/x"])
def test_what_is_not_allowed(session: Sandbox, attempt: str) -> None:
    assert session.run(attempt, 300).exit_code not in (0, None)


def test_nothing_is_left(image: str, tmp_path: Path) -> None:
    with open_sandbox(tmp_path, SandboxParams(backend="podman", image=image)) as sandbox:
        sandbox.run("sleep 4000 &", 300)
    left = subprocess.run(["podman", "ps", "--all", "--format", "json"], capture_output=True, text=True).stdout
    assert json.loads(left or "[]") == []


def test_an_image_that_is_not_there_is_named(image: str, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no such image|not known|no-such") as error:
        open_sandbox(tmp_path, SandboxParams(backend="podman", image="localhost/no-such:1")).start()
    assert "podman pull localhost/no-such:1" in error.value.fix


def test_the_interpreter_of_the_host_is_not_needed(session: Sandbox) -> None:
    assert not any(Path(folder).name in session.run("cat /proc/self/mountinfo", 300).output
                   for folder in find_interpreter_folders() if "venv" in folder)
