"""Headless without the runner: all seven notebooks in order by plain papermill, from the flat files of a profile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kits.places import ROOT

from synthkit.core.params import STAGES

pytestmark = pytest.mark.skipif(not os.environ.get("SYNTHKIT_SLOW"), reason="takes minutes: set SYNTHKIT_SLOW=1")


def test_all_seven_notebooks_run_in_order_by_plain_papermill(tmp_path: Path) -> None:
    run_dir, flat = tmp_path / "run", tmp_path / "flat"
    call("synthkit", "run", "params/ci.yaml", "--set", f"run.run_dir={run_dir}", "--write-params", str(flat))
    assert sorted(path.stem for path in flat.iterdir()) == list(STAGES)
    for name in STAGES:
        said = call("papermill", "-f", str(flat / f"{name}.yaml"), f"notebooks/{name}.ipynb",
                    str(tmp_path / f"{name}.ipynb"), "--no-progress-bar")
        assert "unknown parameter" not in said.lower()
        assert json.loads((run_dir / name / "stage.json").read_text())["name"] == name
    said = call("synthkit", "run", "params/ci.yaml", "--set", f"run.run_dir={run_dir}")
    assert said.count("complete already") == len(STAGES), "what papermill made is not made again"


def call(module: str, *args: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "SYNTHKIT_ATTEMPT"}
    done = subprocess.run([sys.executable, "-m", module, *args], cwd=ROOT, capture_output=True, text=True, timeout=1800,
                          env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
