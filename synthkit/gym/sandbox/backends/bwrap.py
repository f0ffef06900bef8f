"""bubblewrap: what a session looks like from inside, and how it is started.

New user, mount, PID, network, IPC, UTS and cgroup namespaces, no capabilities, no further user namespaces; no network;
a filter of system calls (seccomp.py); the system's programs and the Python that runs the kit, both read-only; /tmp,
/dev/shm and home in memory; an environment that holds nothing of the host's.

Not covered:
- The kernel is shared: an exploit of what the filter of system calls lets through gets out. Other processors than
  x86_64 and aarch64 have no filter.
- Limits in sum are looked at about every 50 ms, the disk every 500 ms: for so long they can be passed. What the kernel
  holds for pipes and sockets counts nowhere, nor do the open deleted files of a process that lets nobody look at it.
- Files in the workspace belong to the host's user who runs the kit, root too: nothing of it should be executed outside.
- Programs see the names of the host's folders that are mounted (/proc/self/mountinfo), and the host's kernel version,
  processors, memory size and load. Where root starts the kit but may not make device nodes, they can chmod the host's.
- An agent can disturb its own shell. It cheats only itself: scores come from another sandbox. A session that breaks is
  replaced by a new one on the same workspace.
- A warm run's command line and memory are copies of the warm interpreter's: its arguments and modules, no secrets.
- When the kit is killed by force its sandboxes end with it; their folders are deleted by the next kit that starts.
- With gpus set, programs reach the GPU's driver and what other programs leave in the GPU's memory.
- A model or language model (MLGym's ModelSubmissionTasks and LMSubmissionTasks), and code whose own time is the metric,
  run in the process of the evaluation: their score can be made up.
"""

import json
import os
import shutil
import signal
import stat
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from synthkit.core.errors import SandboxError
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox.backends.launch import Session, lend_python, read_errors, spawn
from synthkit.gym.sandbox.backends.seccomp import build_filter
from synthkit.gym.sandbox.backends.session_files import ETC, HOME, TOOLS, WORKSPACE, build_environment, write_tools

PYTHON = "/opt/python"
SYSTEM_FOLDERS = ("/bin", "/lib", "/lib32", "/lib64", "/sbin")
SYSTEM_FILES = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
GPU_NODES = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps")
KERNEL_FILES = ("acpi", "bus", "dynamic_debug", "fs", "irq", "mtrr", "pressure", "scsi", "sys", "sysrq-trigger", "tty")
FIX = ("install bubblewrap (Debian, Ubuntu: apt install bubblewrap) and allow user namespaces for it; or, only for "
       "code that you trust, sandbox.backend: process")


def start_bwrap(workspace: Path, tools: Path, params: SandboxParams, stack: ExitStack) -> Session:
    """Start a confined session. Raises SandboxError."""
    program = shutil.which("bwrap")
    if not program:
        raise SandboxError("bubblewrap (bwrap) is not installed", FIX)
    python = show_path(sys.executable)
    write_tools(tools, python, TOOLS)
    info, info_end = os.pipe()
    args = [*build_arguments(workspace, tools, params), "--info-fd", str(info_end)]
    fds = [info_end]
    if steps := build_filter():
        fds.append(fill_pipe(steps))
        args += ["--seccomp", str(fds[-1])]
    # Not on the command line, which programs inside can read.
    fds.append(fill_pipe(b"\0".join(map(os.fsencode, args))))
    command = [program, "--args", str(fds[-1]), python, "-ES", f"{TOOLS}/guest.pyc"]
    process, errors = spawn(command, {}, workspace, stack, fds, FIX)
    stack.callback(process.wait)
    with open(info, "rb") as file:
        report = file.read()
    if not report:
        process.wait()
        raise SandboxError(f"bubblewrap failed: {read_errors(errors)}", FIX)
    namespace = os.pidfd_open(json.loads(report)["child-pid"])
    stack.callback(os.close, namespace)
    # The first process of a PID namespace takes all others with it, and is gone only when they are.
    stack.callback(kill, namespace)
    config: dict[str, Any] = {"folder": WORKSPACE, "names": list_names(), "own_namespace": True}
    return Session(process, errors, config, lend_python(tools, params, namespace, stack), FIX)


def fill_pipe(content: bytes) -> int:
    """The reading end of a pipe that holds a text; it fits."""
    end, start = os.pipe()
    os.write(start, content)
    os.close(start)
    return end


def kill(process: int) -> None:
    """End a process by its pidfd; one that has ended already is no error."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)


def find_interpreter_folders() -> list[str]:
    """The folders of the running Python that lie outside of /usr, under each name by which they are reached.

    Raises SandboxError when one of them would show the user's home.
    """
    program = os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))
    named = [sys.prefix, sys.base_prefix]
    folders = dict.fromkeys([*named, *map(os.path.realpath, named), program])
    home = Path(os.path.expanduser("~"))
    for folder in folders:
        if home.is_relative_to(folder):
            raise SandboxError(f"Python is installed in {folder}, which holds the home folder",
                               "run the kit from a virtual environment")
    return [folder for folder in folders if not Path(folder).is_relative_to("/usr")]


def show_path(path: str) -> str:
    """A path of the interpreter as it is inside: /opt/python stands for its prefix, /opt/python-base for its base."""
    for host, inside in list_names():
        if Path(path).is_relative_to(host):
            return inside + path[len(host):]
    return path


def list_names() -> list[tuple[str, str]]:
    """(host folder, name inside) of the interpreter's folders, those that others lie in last."""
    own = {sys.prefix, os.path.realpath(sys.prefix)}
    pairs = [(folder, PYTHON if folder in own else f"{PYTHON}-base") for folder in find_interpreter_folders()]
    return sorted(pairs, key=lambda pair: -len(pair[0]))


def build_arguments(workspace: Path, tools: Path, params: SandboxParams) -> list[str]:
    """bubblewrap's arguments, but for the command and for what concerns file descriptors."""
    args = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
            # The guest as the first process: the others can neither kill nor stop it.
            "--as-pid-1", "--cap-drop", "ALL", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox", "--clearenv"]
    for name, value in build_environment(HOME, TOOLS, PYTHON).items():
        args += ["--setenv", name, value]
    args += ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    for folder in SYSTEM_FOLDERS:
        if os.path.islink(folder):
            args += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            args += ["--ro-bind", folder, folder]
    for file in SYSTEM_FILES:
        args += ["--ro-bind-try", file, file]
    for folder in ("/tmp", "/dev/shm", HOME):
        args += ["--size", str(params.disk_mb << 20), "--tmpfs", folder]
    for host, inside in list_names():
        # Under its own name too: libraries that the warm interpreter has loaded look for their files there.
        args += ["--ro-bind", host, host, "--ro-bind", host, inside]
    args += ["--ro-bind", str(tools), TOOLS, "--bind", str(workspace), WORKSPACE, "--chdir", WORKSPACE]
    for name in ETC:
        args += ["--ro-bind", str(tools / name), f"/etc/{name}"]
    for device in make_devices(tools):
        args += ["--dev-bind", str(device), f"/dev/{device.name}"]
    for node in list_gpu_nodes() if params.gpus else ():
        args += ["--dev-bind", node, node]
    # /proc too: started by root, the session's user is the owner of what lies there, kernel settings included. CUDA
    # gives its threads names there, so with GPUs only what is not a process's own is made read-only.
    for name in KERNEL_FILES if params.gpus else ():
        args += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for mount in ("/dev", "/") if params.gpus else ("/dev", "/proc", "/"):
        args += ["--remount-ro", mount]
    return args


def make_devices(tools: Path) -> list[Path]:
    """Device nodes of the session's own, for a kit that root starts: such a session could chmod the host's.

    None for any other user, who needs none, and none where root may not make them, as in some containers.
    """
    if os.geteuid() != 0 or os.statvfs(tools).f_flag & os.ST_NODEV:
        return []
    made = []
    for name, numbers in DEVICES.items():
        path = tools / name
        try:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(*numbers))
        except PermissionError:
            return []
        path.chmod(0o666)
        made.append(path)
    return made


def list_gpu_nodes() -> list[str]:
    """The device files of the host's NVIDIA GPUs. Raises SandboxError when there is none."""
    nodes = sorted(str(path) for pattern in GPU_NODES for path in Path("/dev").glob(pattern))
    if not any(Path(node).name[6:].isdigit() for node in nodes):
        raise SandboxError("sandbox.gpus is set, and this machine has no NVIDIA GPU", "set sandbox.gpus: false")
    return nodes
