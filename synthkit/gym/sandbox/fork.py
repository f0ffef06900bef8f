"""A second session at the point where another one stands: its files, its shell, its open file.

For best-of-n, repair and reinforcement learning: the steps up to a fork are taken once. What runs in the background
stays with the first session. The workspace is copied copy-on-write where the file system can (Btrfs, XFS), else byte
by byte.
"""

import shlex
from pathlib import Path

from synthkit.core.errors import SandboxError
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox.backends.session_files import HOME, WORKSPACE
from synthkit.gym.sandbox.sandbox import Sandbox, open_sandbox
from synthkit.gym.sandbox.workspace import clone_files

LUGGAGE = f"{WORKSPACE}/.synthkit-fork"
FORK_TIMEOUT_S = 60
PACK = f"mkdir -p {LUGGAGE} && {{ declare -p; declare -f; alias -p; shopt -p; set +o; }} >{LUGGAGE}/shell"
# Read-only variables cannot be set again: that they exist already is what the errors say.
UNPACK = f". {LUGGAGE}/shell 2>/dev/null; rm -rf {LUGGAGE}"


def fork_session(session: Sandbox, workspace: Path, params: SandboxParams) -> Sandbox:
    """Start a session on an empty folder, made like another; the caller stops it.

    Raises SandboxError when the session cannot be packed (it is broken, or its disk is full), BadFile when its
    workspace is larger than `disk_mb`.
    """
    # Sessions without isolation share the machine's temporary folders.
    folders = [HOME] if params.backend == "process" else [HOME, "/tmp", "/dev/shm"]
    state = session.state()
    # A virtual environment under /tmp is mounted there: it is no file of the session's.
    within = "--one-file-system" if params.backend == "bwrap" else ""
    archives = [f"/bin/tar -C {folder} {within} --exclude=./workspace -cf {LUGGAGE}/{at}.tar ."
                for at, folder in enumerate(folders)]
    packed = session.run(" && ".join([PACK, *archives]), FORK_TIMEOUT_S)
    try:
        if packed.exit_code != 0:
            raise SandboxError(f"the session cannot be forked: {packed.output.strip()[:300]}", "fork it earlier")
        clone_files(session.workspace, workspace, params.disk_mb << 20, links=True)
    finally:
        session.run(f"rm -rf {LUGGAGE}", FORK_TIMEOUT_S)
    forked = open_sandbox(workspace, params)
    forked.start()
    unpacked = [f"/bin/tar -C {folder} -xf {LUGGAGE}/{at}.tar" for at, folder in enumerate(folders)]
    forked.run("; ".join([*unpacked, UNPACK, f"cd {shlex.quote(state['working_dir'])}"]), FORK_TIMEOUT_S)
    if state["open_file"] != "n/a":
        forked.call("open", [state["open_file"]])
    return forked
