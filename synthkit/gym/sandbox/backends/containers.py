"""podman and docker: the same guest in a container of a named image, which needs bash, tar and Python 3.11 or newer.

For tasks that need other packages than the kit's, and for machines without user namespaces. Nothing is pulled. Python
runs are cold here. What an engine forbids by default (system calls, devices, rights) comes on top of what is said here.

Not covered:
- The kernel is shared, and the engine's service, where it has one, runs as root.
- What the image holds is visible, and is trusted: it brings the bash and the Python that the guest runs in.
- Limits in sum are the engine's where the machine gives it cgroups, and the guest's, looked at about every 50 ms.
- Files in the workspace belong to the host's user who runs the kit, root too: nothing of it should be executed outside.
- A model or language model (MLGym's ModelSubmissionTasks and LMSubmissionTasks), and code whose own time is the metric,
  run in the process of the evaluation: their score can be made up.
"""

import os
import resource
import secrets
import shutil
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

from synthkit.core.errors import SandboxError
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox.backends.bwrap import list_gpu_nodes
from synthkit.gym.sandbox.backends.launch import Guest, Session, spawn
from synthkit.gym.sandbox.backends.session_files import HOME, TOOLS, WORKSPACE, build_environment, write_sources

STOP_TIMEOUT_S = 10.0
MAX_PROCESSES = 16384


def start_container(workspace: Path, tools: Path, params: SandboxParams, stack: ExitStack) -> Session:
    """Start a session in a container. Raises SandboxError."""
    engine = shutil.which(params.backend)
    fix = f"install {params.backend}, start its service, and get the image: {params.backend} pull {params.image}"
    if not engine:
        raise SandboxError(f"{params.backend} is not installed", fix)
    if params.gpus:
        list_gpu_nodes()
    write_sources(tools)
    name = f"synthkit-{os.getpid()}-{secrets.token_hex(6)}"
    command = [engine, *build_arguments(name, workspace, tools, params)]
    process, errors = spawn(command, dict(os.environ), workspace, stack, [], fix)
    stack.callback(end_container, engine, name, process)
    return Session(process, errors, {"folder": WORKSPACE, "names": [], "own_namespace": True}, None, fix)


def build_arguments(name: str, workspace: Path, tools: Path, params: SandboxParams) -> list[str]:
    """The engine's arguments. The first process of the container is the guest, which ends when its stdin closes."""
    size = f"size={params.disk_mb}m,mode=1777,exec"
    args = ["run", "--rm", "--interactive", "--pull", "never", "--name", name, "--network", "none", "--read-only",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--hostname", "sandbox",
            "--memory", f"{params.memory_mb}m", "--pids-limit", str(4 * params.processes),
            "--tmpfs", f"/tmp:{size}", "--tmpfs", f"{HOME}:{size}", "--shm-size", f"{params.disk_mb}m",
            "--volume", f"{workspace}:{WORKSPACE}", "--volume", f"{tools}:{TOOLS}:ro", "--workdir", WORKSPACE,
            *choose_user(params.backend), *limit_resources(params)]
    environment = build_environment(HOME, TOOLS, "/usr/local")
    del environment["PATH"]  # The image's own.
    for variable, value in environment.items():
        args += ["--env", f"{variable}={value}"]
    if params.gpus:
        args += ["--gpus", "all"] if params.backend == "docker" else ["--device", "nvidia.com/gpu=all"]
    return [*args, "--entrypoint", "python3", str(params.image), "-ES", f"{TOOLS}/guest.py"]


def choose_user(engine: str) -> list[str]:
    """The kit's own user, so that what is written in the workspace is its to read and to delete."""
    if engine == "podman" and os.geteuid() != 0:
        return ["--userns", "keep-id"]
    return ["--user", f"{os.geteuid()}:{os.getegid()}"]


def limit_resources(params: SandboxParams) -> list[str]:
    """Limits that the kit itself may set: engines ask for more by default, which a restricted machine refuses."""
    files = min_limit(params.open_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    # Processes of one user count on the whole host, so this is no limit of the container's.
    processes = min_limit(MAX_PROCESSES, resource.getrlimit(resource.RLIMIT_NPROC)[1])
    return ["--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={processes}:{processes}"]


def min_limit(wanted: int, hard: int) -> int:
    """The wanted limit, or the machine's hard one where that is lower."""
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def end_container(engine: str, name: str, process: Guest) -> None:
    """Close the stdin of a container's guest and wait for it to end; kill it after STOP_TIMEOUT_S."""
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        subprocess.run([engine, "rm", "--force", name], capture_output=True, check=False)
        process.kill()
        process.wait()
