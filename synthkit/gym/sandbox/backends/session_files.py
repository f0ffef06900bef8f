"""The files and the environment that every session starts with, whatever its backend: guest, editor, `python`."""

import importlib.util
import io
import marshal
import sys
import zipfile
from functools import cache
from pathlib import Path

from synthkit.core.errors import SandboxError
from synthkit.gym.sandbox.in_sandbox import shim

HOME = "/home/agent"
WORKSPACE = "/home/agent/workspace"
TOOLS = "/run/synthkit"
ETC = {"passwd": f"agent:x:1000:1000:agent:{HOME}:/bin/bash\n", "group": "agent:x:1000:\n",
       "hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n"}
NAMES = ("python", "python3", f"python3.{sys.version_info.minor}")
IN_SANDBOX = Path(shim.__file__).parent
GUEST_MODULES = ("guest", "guest_editor", "guest_lint", "guest_limits", "guest_processes", "guest_shell", "guest_usage",
                 "guest_window")
PYFLAKES_MODULES = ("__init__", "checker", "messages")
# zipimport then takes the code as it is, and the source beside it where the magic number is another Python's (PEP 552).
UNCHECKED = (1).to_bytes(4, "little") + bytes(8)


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


def write_sources(folder: Path) -> None:
    """The guest's files as source, for another Python than this one; without `python` for the warm interpreter."""
    for name in GUEST_MODULES:
        (folder / f"{name}.py").write_bytes((IN_SANDBOX / f"{name}.py").read_bytes())
    (folder / "pyflakes.zip").write_bytes(pack_pyflakes())
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)


@cache
def compile_modules(*names: str) -> dict[str, bytes]:
    """Modules of `in_sandbox/` as .pyc files, by file name; compiled once, since each session starts them anew.

    They are copied to where they run. Run from where the package lies, its path would show inside.
    """
    header = importlib.util.MAGIC_NUMBER + bytes(12)
    sources = {name: (IN_SANDBOX / f"{name}.py").read_bytes() for name in names}
    return {f"{name}.pyc": header + marshal.dumps(compile(source, f"{name}.py", "exec"))
            for name, source in sources.items()}


def build_environment(home: str, tools: str, prefix: str) -> dict[str, str]:
    """All of a session's environment: nothing is inherited."""
    path = ":".join([f"{tools}/bin", f"{prefix}/bin", "/usr/local/bin", "/usr/bin", "/bin"])
    return shim.ENVIRONMENT | {"HOME": home, "PATH": path, "USER": "agent", "SHELL": "/bin/bash", "TERM": "dumb"}


@cache
def pack_pyflakes() -> bytes:
    """The parts of pyflakes that find names, as a zip: code for this Python, source for any other.

    Raises SandboxError where pyflakes is not installed.
    """
    found = importlib.util.find_spec("pyflakes")
    if found is None or found.origin is None:
        raise SandboxError("pyflakes is not installed, and the editor needs it", "install the kit's requirements.lock")
    package = Path(found.origin).parent
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in PYFLAKES_MODULES:
            source = (package / f"{name}.py").read_bytes()
            code = marshal.dumps(compile(source, f"pyflakes/{name}.py", "exec"))
            archive.writestr(f"pyflakes/{name}.pyc", importlib.util.MAGIC_NUMBER + UNCHECKED + code)
            archive.writestr(f"pyflakes/{name}.py", source)
    return packed.getvalue()
