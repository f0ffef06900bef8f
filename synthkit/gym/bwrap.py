"""What a sandbox looks like from inside: the folders, files and environment that bubblewrap is told to show.

Nothing of the host is visible but the system's programs and the Python that runs the kit, both read-only.
"""

import importlib.util
import marshal
import os
import stat
import sys
from functools import cache
from pathlib import Path

from synthkit.core.errors import SandboxError
from synthkit.gym import shim
from synthkit.gym.guest_parts import GUEST_MODULES, pack_pyflakes

HOME = "/home/agent"
WORKSPACE = "/home/agent/workspace"
PYTHON = "/opt/python"
TOOLS = "/run/synthkit"
SYSTEM_FOLDERS = ("/bin", "/lib", "/lib32", "/lib64", "/sbin")
SYSTEM_FILES = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime")
ETC = {"passwd": f"agent:x:1000:1000:agent:{HOME}:/bin/bash\n", "group": "agent:x:1000:\n",
       "hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n"}
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
NAMES = ("python", "python3", f"python3.{sys.version_info.minor}")


def write_tools(folder: Path, python: str, inside: str) -> None:
    """The files that every session needs: guest, editor, `python` for the shim, and who the user is.

    `python` is the real interpreter and `inside` this folder, as they are named in the session.
    """
    (folder / "bin").mkdir()
    (folder / "home").mkdir()
    for name, code in compile_modules(*GUEST_MODULES, "shim").items():
        (folder / name).write_bytes(code)
    (folder / "pyflakes.zip").write_bytes(pack_pyflakes())
    program = folder / "bin" / NAMES[0]
    program.write_text(f"#!{python} -IS\nimport sys\nsys.path[:0] = [{inside!r}]\nimport shim\nshim.main()\n",
                       encoding="utf-8")
    program.chmod(0o755)
    for name in NAMES[1:]:
        (folder / "bin" / name).symlink_to(NAMES[0])
    for name, text in ETC.items():
        (folder / name).write_text(text, encoding="utf-8")


@cache
def compile_modules(*names: str) -> dict[str, bytes]:
    """Modules of this package as .pyc files, by file name; compiled once, for sessions and Python runs start them anew.

    They are copied to where they run. Run from where the package lies, its path would show inside.
    """
    header = importlib.util.MAGIC_NUMBER + bytes(12)
    sources = {name: Path(__file__).with_name(f"{name}.py").read_bytes() for name in names}
    return {f"{name}.pyc": header + marshal.dumps(compile(source, f"{name}.py", "exec"))
            for name, source in sources.items()}


def build_environment(home: str, tools: str, prefix: str) -> dict[str, str]:
    """All of a session's environment: nothing is inherited."""
    path = ":".join([f"{tools}/bin", f"{prefix}/bin", "/usr/local/bin", "/usr/bin", "/bin"])
    return shim.ENVIRONMENT | {"HOME": home, "PATH": path, "USER": "agent", "SHELL": "/bin/bash", "TERM": "dumb"}


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


def build_arguments(workspace: Path, tools: Path, size_mb: int) -> list[str]:
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
        args += ["--size", str(size_mb << 20), "--tmpfs", folder]
    for host, inside in list_names():
        # Under its own name too: libraries that the warm interpreter has loaded look for their files there.
        args += ["--ro-bind", host, host, "--ro-bind", host, inside]
    args += ["--ro-bind", str(tools), TOOLS, "--bind", str(workspace), WORKSPACE, "--chdir", WORKSPACE]
    for name in ETC:
        args += ["--ro-bind", str(tools / name), f"/etc/{name}"]
    for device in make_devices(tools):
        args += ["--dev-bind", str(device), f"/dev/{device.name}"]
    # /proc too: started by root, the session's user is the owner of what lies there, kernel settings included.
    for mount in ("/dev", "/proc", "/"):
        args += ["--remount-ro", mount]
    return args


def make_devices(tools: Path) -> list[Path]:
    """Device nodes of the session's own when root starts it: the host's would be its to chmod. Else none are needed.

    None either where root may not make them, as in some containers.
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
