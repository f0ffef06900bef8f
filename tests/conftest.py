"""What several test files share: one finished run of the smallest profile, made once per session."""

import subprocess
import sys
from pathlib import Path

import pytest
from kits.places import ROOT


@pytest.fixture(scope="session")
def ci_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run of params/ci.yaml through the command line."""
    folder = tmp_path_factory.mktemp("runs") / "ci"
    command = [sys.executable, "-m", "synthkit", "run", "params/ci.yaml", "--set", f"run.run_dir={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
