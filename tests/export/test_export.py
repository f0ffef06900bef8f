"""Exports of a run's tasks: laid over MLGym and run as MLGym runs them, as Harbor folders; the dataset card."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from synthkit.cli import main
from synthkit.core.errors import SynthkitError, TaskError
from synthkit.export.card import build_card
from synthkit.export.publish import may_publish, prepare
from synthkit.export.selection import load_verified
from synthkit.gym.sandbox.backends.bwrap import find_interpreter_folders
from synthkit.gym.task import Task, list_tasks

BACKEND = "bwrap" if shutil.which("bwrap") else "process"
PLAIN = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest) -> Path:
    # The whole offline run is put to the same tests by `make exports`.
    return Path(os.environ.get("SYNTHKIT_EXPORTED_RUN") or request.getfixturevalue("ci_run"))


def export(run: Path, kind: str, out: Path) -> list[Task]:
    """Export all tasks of a run; of the smallest run two are looked at closely, of any other one all."""
    assert main(["export", "tasks", "--run", str(run), "--format", kind, "--out", str(out), "--backend", BACKEND]) == 0
    tasks = load_verified(run)
    assert len(tasks) > 2
    return tasks if "SYNTHKIT_EXPORTED_RUN" in os.environ else tasks[:2]


def test_an_mlgym_export_runs_as_mlgym_runs_it(run: Path, tmp_path: Path) -> None:
    """Sections 1.1 to 1.4 of the contract: flat copies, any folder, both streams in one, the whole output as JSON."""
    root = tmp_path / "MLGym"
    tasks = export(run, "mlgym", root)
    assert list_tasks(root) == [task.id for task in load_verified(run)]
    for task in tasks:
        config = yaml.safe_load((root / f"configs/tasks/{task.id}.yaml").read_text())
        dataset = yaml.safe_load((root / "configs" / config["dataset_configs"][0]).read_text())
        assert config["description"].format(dataset_docs="docs").count("docs") == 1
        workspace = tmp_path / "workspace"
        workspace.mkdir()
        for path in config["starter_code"]:
            shutil.copy(root / path, workspace)
        shutil.copytree(root / dataset["data_path"], workspace / "data")
        assert (root / config["sample_submission"]).is_file()
        script = workspace / config["baseline_paths"][0]
        subprocess.run([sys.executable, str(script)], cwd=workspace, env=PLAIN, check=True, timeout=600)
        evaluate = [sys.executable, str(workspace / config["evaluation_paths"][0]), "--submission_file",
                    str(workspace / "submission.csv")]
        done = subprocess.run(evaluate, cwd=tmp_path, env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=600, check=True)
        assert json.loads(done.stdout) == pytest.approx(config["baseline_scores"][0])
        shutil.rmtree(workspace)


def in_harbor(folder: Path, work: Path, logs: Path, *command: str, tests: bool = False) -> None:
    """One command in a bare root with the folders that Harbor has there; tests/ only once the agent is done."""
    args = ["bwrap", "--unshare-all", "--die-with-parent", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
            "--clearenv", "--setenv", "PATH", PLAIN["PATH"]]
    for path in ("/usr", "/bin", "/lib", "/lib64", "/etc", *find_interpreter_folders()):
        args += ["--ro-bind-try", path, path]
    args += ["--bind", str(work), "/workspace", "--bind", str(logs), "/logs", "--chdir", "/workspace"]
    args += ["--ro-bind", str(folder / ("tests" if tests else "solution")), "/tests" if tests else "/solution"]
    subprocess.run([*args, *command], check=True, timeout=600, capture_output=True)


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
def test_a_harbor_export_is_solved_and_scored(run: Path, tmp_path: Path) -> None:
    tasks = export(run, "harbor", tmp_path / "harbor")
    for task in tasks:
        folder, work, logs = (tmp_path / name for name in (f"harbor/{task.id}", "work", "logs"))
        config = tomllib.loads((folder / "task.toml").read_text())
        assert config["schema_version"] == "1.4" and config["task"]["name"] == f"synthkit/{task.id}"
        assert config["environment"]["network_mode"] == "no-network"
        logs.mkdir()
        shutil.copytree(folder / "environment/workspace", work)
        in_harbor(folder, work, logs, "bash", "/tests/test.sh", tests=True)
        assert json.loads((logs / "verifier/reward.json").read_text()) == {"reward": -1.0}
        in_harbor(folder, work, logs, "bash", "/solution/solve.sh")
        in_harbor(folder, work, logs, "bash", "/tests/test.sh", tests=True)
        reward = json.loads((logs / "verifier/reward.json").read_text())
        assert 0 < reward["reward"] <= 1, task.id
        shutil.copy(task.all_files()["data/answers.csv"], work / "submission.csv")
        in_harbor(folder, work, logs, "bash", "/tests/test.sh", tests=True)
        assert json.loads((logs / "verifier/reward.json").read_text())["reward"] == pytest.approx(1)
        shutil.rmtree(work)
        shutil.rmtree(logs)


def test_labels_and_evaluation_of_a_harbor_export_are_in_tests_only(run: Path, tmp_path: Path) -> None:
    for task in export(run, "harbor", tmp_path):
        answers = task.all_files()["data/answers.csv"].read_bytes()
        holders = {path.relative_to(tmp_path / task.id).parts[0]
                   for path in (tmp_path / task.id).rglob("*") if path.is_file() and answers in path.read_bytes()}
        assert holders == {"tests"}


def test_the_card_names_every_source_and_licence(run: Path) -> None:
    tasks = load_verified(run)
    card = build_card(tasks, "Tasks", "a scripted teacher")
    front = yaml.safe_load(card.split("---")[1])
    assert front["source_datasets"] and front["task_categories"] and front["tags"][0] == "synthkit"
    for task in tasks:
        assert f"| {task.meta.dataset_id} | `{task.meta.dataset_revision[:12]}` | {task.meta.licence} |" in card
        assert f"| {task.id} |" in card


def test_episodes_are_where_mlgyms_scripts_look(ci_run: Path, tmp_path: Path) -> None:
    """Sections 1.9 and 2 of the contract: `*<model>__<task>__<pattern>*` with a results.json in it."""
    command = ["export", "trajectories", "--run", str(ci_run), "--out", str(tmp_path / "mlgym")]
    assert main([*command, "--format", "mlgym"]) == 0
    found = list((tmp_path / "mlgym").glob("*student__wineCultivar__synthkit_run*"))
    assert found and all({path.suffix for path in folder.iterdir()} == {".traj", ".json"} for folder in found)
    assert "agent" in json.loads((found[0] / "results.json").read_text())
    command[-1] = str(tmp_path / "atif")
    assert main([*command, "--stage", "05", "--format", "atif"]) == 0
    documents = [json.loads(path.read_text()) for path in (tmp_path / "atif").glob("*.json")]
    assert documents and all(document["schema_version"] == "ATIF-v1.8" for document in documents)


def test_what_a_licence_forbids_is_not_published(run: Path, tmp_path: Path) -> None:
    tasks = load_verified(run)
    tasks[0].meta = tasks[0].meta.model_copy(update={"licence": "cc-by-nd-4.0"})
    with pytest.raises(SynthkitError, match=rf"{tasks[0].id} .*cc-by-nd-4.0"):
        prepare(tasks, tmp_path, "me/tasks", "a teacher")
    assert not list(tmp_path.iterdir())
    allowed = ("mit", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-nc-4.0", "public-domain", "bsd-3-clause")
    assert all(map(may_publish, allowed))
    assert not any(map(may_publish, ("cc-by-nc-nd-4.0", "other", "unknown", "", None, "proprietary")))


@pytest.mark.parametrize(("options", "fault"), [
    ([], "either --format"), (["--format", "mlgym"], "needs a folder"), (["--to", "hub"], "the repository's name"),
    (["--format", "mlgym", "--out", "."], "is not empty"),
])
def test_what_is_missing_is_said(run: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "tasks", "--run", str(run), *options]) == 1
    assert fault in capsys.readouterr().err


def test_a_run_without_tasks_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="holds no verified tasks"):
        load_verified(tmp_path)
