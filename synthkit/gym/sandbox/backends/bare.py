"""No isolation: the session's processes run as the kit's user on the host. For code that is trusted.

Not covered:
- Everything: what runs here can read, write and send whatever the kit's user can, labels and keys in files included.
- Of the limits in sum, runs of the warm interpreter count in none, and a fork bomb may outrun its end.
"""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox.backends.bwrap import list_names
from synthkit.gym.sandbox.backends.launch import Guest, Session, lend_python, spawn
from synthkit.gym.sandbox.backends.session_files import HOME, TOOLS, WORKSPACE, build_environment, write_tools

# A guest that is killed leaves its programs behind.
STOP_TIMEOUT_S = 60.0
FIX = "look at the message above; sandbox.backend: bwrap is the default"


def start_bare(workspace: Path, tools: Path, params: SandboxParams, stack: ExitStack) -> Session:
    """Start a session without isolation. Raises SandboxError."""
    write_tools(tools, sys.executable, str(tools))
    environment = build_environment(str(tools / "home"), str(tools), sys.prefix)
    process, errors = spawn([sys.executable, "-ES", str(tools / "guest.pyc")], environment, workspace, stack, [], FIX)
    stack.callback(wait, process)
    lease = lend_python(tools, params, None, stack)
    own = [(str(workspace), WORKSPACE), (str(tools / "home"), HOME), (str(tools), TOOLS)]
    config = {"folder": str(workspace), "names": own + list_names(), "own_namespace": False}
    return Session(process, errors, config, lease, FIX)


def wait(process: Guest) -> None:
    """Close a guest's stdin and wait for it to end; kill it after STOP_TIMEOUT_S."""
    # The guest kills what it has started when its stdin closes.
    process.stdin.close()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
