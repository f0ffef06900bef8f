"""The command line: stages are chosen as named, a plan spends nothing, and every mistake has its fix."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from kits.places import ROOT
from kits.show_kit import write_stage

from synthkit.cli import choose_stages, main
from synthkit.core.errors import SynthkitError
from synthkit.core.params import STAGES
from synthkit.core.profiles import load_params
from synthkit.plan import estimate

NAMES = list(STAGES)
HOLD = """
import sys
from pathlib import Path
from synthkit.core.lock import hold_run
with hold_run(Path(sys.argv[1]), "a notebook"):
    print("in", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the real profiles and no notebooks: whatever started a kernel would fail."""
    (tmp_path / "params").symlink_to(ROOT / "params")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path


@pytest.mark.parametrize(("first", "last", "expected"), [
    (None, None, NAMES), ("03", "05", NAMES[2:5]), ("6", None, NAMES[5:]), (None, "topics", NAMES[:1]),
    ("04_self_debug", "04_self_debug", NAMES[3:4]),
])
def test_stages_are_named_by_number_or_name(first: str | None, last: str | None, expected: list[str]) -> None:
    assert choose_stages(first, last) == expected


@pytest.mark.parametrize(("first", "last"), [("05", "03"), ("08", None), (None, "sfd"), ("-1", None)])
def test_stages_that_are_none_are_refused(first: str | None, last: str | None) -> None:
    with pytest.raises(SynthkitError) as caught:
        choose_stages(first, last)
    assert caught.value.fix


@pytest.mark.parametrize(("args", "cause", "fix"), [
    (["run", "params/ofline.yaml"], "there is no params/ofline.yaml", "did you mean params/offline.yaml?"),
    (["run", "params/offline.yaml", "--only", "04", "--to", "05"], "--only runs one stage", "leave one of them out"),
    (["run", "params/offline.yaml", "--set", "topics.n_topics"], "is not section.key=value", "for example --set"),
    (["run", "params/offline.yaml", "--run", "../other"], "is no name for a folder", "use letters"),
    (["run", "params/offline.yaml"], "01_topics.ipynb: the notebook is missing", ""),
    (["report", "outputs/none"], "there is no run folder outputs/none", "outputs/offline"),
])
def test_a_mistake_is_told_with_its_fix(
    args: list[str], cause: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and cause in error and fix in error and "\n  fix: " in error


def test_outside_a_repository_nothing_is_guessed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert main(["doctor"]) == 1
    assert "is not in a synthkit repository" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_no_traceback(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repo / "notebooks").rmdir()
    (repo / "notebooks").symlink_to(ROOT / "notebooks")
    (repo / "outputs").write_text("a file where the folder should be")
    assert main(["run", "params/offline.yaml", "--to", "01"]) == 1
    assert re.match(r"error: .*outputs.*\n  fix: ", capsys.readouterr().err)


@pytest.mark.parametrize("profile", ["offline", "ci", "workshop", "paper"])
def test_a_dry_run_shows_every_stage_and_makes_nothing(
    profile: str, repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", f"params/{profile}.yaml", "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert [name for name in NAMES if f"\n{name}" in plan] == NAMES
    assert ("OPENAI_API_KEY is not set" in plan) == (profile in ("workshop", "paper"))
    assert not (repo / "outputs").exists()


def test_the_plan_follows_the_parameters() -> None:
    def plan(*sets: str) -> dict[str, float]:
        stages = load_params([Path("params/base.yaml"), Path("params/paper.yaml")], sets)
        costs = estimate(stages)
        return {name: cost.usd(getattr(stages[name], "teacher", None)) for name, cost in costs.items()} | {
            "hours": costs["06_sft"].gpu_hours}

    whole, quarter = plan(), plan("trajectories.per_task=64")
    assert quarter["05_trajectories"] == pytest.approx(whole["05_trajectories"] / 4)
    assert quarter["hours"] == pytest.approx(whole["hours"] / 4, rel=1e-3)
    assert plan("teacher.usd_per_mtok_in=0", "teacher.usd_per_mtok_out=0")["05_trajectories"] == 0
    assert plan("mlgym_eval.runs=32")["07_mlgym_eval"] == pytest.approx(whole["07_mlgym_eval"] / 2)


def test_a_budget_that_does_not_cover_the_plan_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "params/paper.yaml", "--dry-run"]) == 0
    assert "does NOT cover this" in capsys.readouterr().out
    assert main(["run", "params/paper.yaml", "--dry-run", "--only", "01"]) == 0
    assert "100.00 and covers this" in capsys.readouterr().out


def test_a_report_is_not_written_while_another_process_works_in_the_run(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = repo / "outputs" / "demo"
    write_stage(run, "01_topics", {})
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout and worker.stdout.readline() == "in\n"
        assert main(["report", str(run)]) == 1
        assert f"(pid {worker.pid}: a notebook)" in capsys.readouterr().err
        assert not (run / "report.html").exists() and not (run / "summary.json").exists()
        worker.communicate("\n", timeout=30)
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").exists() and (run / "summary.json").exists()


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "synthkit", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "doctor" in done.stdout
