"""The whole method at its smallest size: seven notebooks through the runner, plain papermill, and a resume."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from kits.places import ROOT

from synthkit.core.params import STAGES

RESULTS = ("*.jsonl", "*.csv", "*.yaml", "*.py", "*.safetensors")


def run_cli(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "synthkit", "run", "params/ci.yaml", "--set", f"run.run_dir={folder}", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)


def hash_results(folder: Path) -> dict[str, str]:
    files = (path for pattern in RESULTS for path in folder.rglob(pattern))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_stage_left_its_record_and_the_run_its_summary(ci_run: Path):
    summary = json.loads((ci_run / "summary.json").read_text())
    assert [row["name"] for row in summary["stages"]] == list(STAGES)
    assert all(row["requested"] == row["kept"] + sum(row["lost"].values()) for row in summary["stages"])
    assert [row["name"] for row in summary["models"]] == ["base", "student", "teacher"]
    assert summary["aup_difference"]["models"] == ["student", "base"] and summary["max_tau"] > 0
    assert set(summary["pool"]) == {"base", "student", "teacher", "baseline"}
    page = (ci_run / "report.html").read_text()
    assert "<svg" in page and "http-equiv" not in page and "<script" not in page
    assert len(list((ci_run / "notebooks").glob("*.ipynb"))) == 7


def test_every_record_adds_up_and_names_what_it_was_made_from(ci_run: Path):
    records = [json.loads((ci_run / name / "stage.json").read_text()) for name in STAGES]
    for record in records:
        assert record["requested"] == record["kept"] + sum(record["refused"].values()) + record["owed"], record["name"]
        assert record["owed"] == 0 and record["made_by_other_code"] is False and len(record["codes"]) == 1
    named = [{"fingerprint": record["fingerprint"], "results": record["results"]} for record in records]
    assert [record["made_from"] for record in records] == [{}, *named[:-1]]
    assert len({record["results"] for record in records}) == len(STAGES)


def test_a_second_call_changes_nothing_and_starts_no_kernel(ci_run: Path):
    before = hash_results(ci_run)
    done = run_cli(ci_run)
    assert done.returncode == 0 and done.stdout.count("complete already") == 7, done.stdout + done.stderr
    assert hash_results(ci_run) == before
    assert len(list((ci_run / "notebooks").glob("*.ipynb"))) == 7


def test_a_notebook_runs_by_plain_papermill_and_resumes_to_the_same_bytes(ci_run: Path, tmp_path: Path):
    before = hash_results(ci_run / "03_codegen")
    (ci_run / "03_codegen" / "stage.json").unlink()
    lines = (ci_run / "03_codegen" / "drafts.jsonl").read_text().splitlines(keepends=True)
    (ci_run / "03_codegen" / "drafts.jsonl").write_text("".join(lines[:2]) + lines[2][:20])
    params = tmp_path / "params.yaml"
    params.write_text(f"run_dir: {ci_run}\ntime_limit_s: 300\n")
    command = [sys.executable, "-m", "papermill", "notebooks/03_codegen.ipynb", str(tmp_path / "out.ipynb"),
               "-f", str(params), "-y", "resume: always", "--no-progress-bar"]
    environment = {k: v for k, v in os.environ.items() if k != "SYNTHKIT_ATTEMPT"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    assert "unknown parameter" not in done.stderr.lower()
    assert hash_results(ci_run / "03_codegen") == before


def test_a_stage_without_its_predecessor_is_refused_before_any_kernel(tmp_path: Path):
    done = run_cli(tmp_path / "empty", "--only", "05")
    assert done.returncode == 1
    assert "05_trajectories needs 04_self_debug" in done.stderr and "fix: start earlier: --from 04" in done.stderr
