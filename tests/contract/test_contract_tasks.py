"""Sections 1.1 and 1.2 of the MLGym contract: task and dataset files, and what of them reaches the workspace."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kits.contract_kit import (
    LABELS,
    PERFECT,
    SANDBOX,
    load_duel,
    load_table,
    play,
    write_files,
    write_table_task,
    write_task,
    write_yaml,
)

from synthkit.core.errors import TaskError
from synthkit.gym.environment import Environment
from synthkit.gym.sandbox.workspace import prepare_workspace
from synthkit.gym.scoring import score_submission
from synthkit.gym.scoring.submissions import find_command
from synthkit.gym.task import Task
from synthkit.gym.task.config import TaskConfig, read_section, write_section

DEFAULTS = {
    "dataset_configs": [], "task_entrypoint": "CSVSubmissionTasks", "training_timeout": None,
    "requirements_path": None, "benchmark_name": None, "use_generic_conda": True, "starter_code": [],
    "baseline_paths": [], "baseline_scores": [], "sample_submission": None, "evaluation_paths": [],
    "evaluation_read_only": False, "secret_files": [], "memory_path": None,
}


def test_1_1_three_keys_are_enough_and_the_others_have_mlgyms_defaults(tmp_path: Path) -> None:
    config = Task.load(write_task(tmp_path, {}), "guess").config
    assert config.model_dump(exclude={"id", "name", "description"}) == DEFAULTS


@pytest.mark.parametrize("key", ["id", "name", "description"])
def test_1_1_the_three_keys_are_needed(tmp_path: Path, key: str) -> None:
    root = write_task(tmp_path, {})
    path = root / "configs/tasks/guess.yaml"
    path.write_text(yaml.safe_dump({name: text for name, text in yaml.safe_load(path.read_text()).items()
                                    if name != key}))
    with pytest.raises(TaskError, match=f"{key}: Field required"):
        Task.load(root, "guess")


def test_1_1_differs_an_unknown_key_of_a_checkout_is_left_out_with_a_warning(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # MLGym drops it in silence; a misspelt key would never be found.
    with caplog.at_level(logging.WARNING):
        Task.load(write_task(tmp_path, {}, descripton="x"), "guess")
    assert "unknown keys left out: descripton" in caplog.text


def test_1_1_a_key_left_empty_has_its_default(tmp_path: Path) -> None:
    empty = dict.fromkeys(DEFAULTS)
    assert Task.load(write_task(tmp_path, {}, **empty), "guess").config.model_dump().items() >= DEFAULTS.items()


def test_1_1_differs_the_task_is_told_its_name(tmp_path: Path) -> None:
    # MLGym's templates leave the name out; it costs one line.
    with Environment(load_table(tmp_path)) as env:
        assert env.describe_task().splitlines()[:2] == ["TASK: Guess", "Guess y."]


@pytest.mark.parametrize("name", ["datasets/gone.yaml", "../gone.yaml"])
def test_1_1_a_missing_dataset_file_is_found_at_load(tmp_path: Path, name: str) -> None:
    with pytest.raises(TaskError, match="gone.yaml is missing"):
        load_table(tmp_path, dataset_configs=[name])


@pytest.mark.parametrize("entrypoint", ["CSVSubmissionTasks", "ModelSubmissionTasks", "PythonSubmissionTasks"])
def test_1_1_the_baseline_is_run_by_python(tmp_path: Path, entrypoint: str) -> None:
    task = load_table(tmp_path, task_entrypoint=entrypoint)
    assert find_command(task, "baseline", SANDBOX) == "python baseline.py"


def test_1_1_the_baseline_of_a_language_model_is_run_by_torchrun(tmp_path: Path) -> None:
    task = load_table(tmp_path, task_entrypoint="LMSubmissionTasks")
    assert find_command(task, "baseline", SANDBOX) == "torchrun --nproc_per_node=1 --standalone baseline.py"


def test_1_1_training_timeout_is_told_and_3600_s_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLGYM_AGENT_LONG_TIMEOUT", "7")
    for keys, told in (({"training_timeout": None}, "3600 s"), ({"training_timeout": 90}, "90 s")):
        with Environment(load_table(tmp_path, **keys)) as env:
            assert f"Time limit: {told} for an action that runs Python, 25 s" in env.describe_task()


def test_1_1_starter_code_is_files_and_folders_copied_flat(tmp_path: Path) -> None:
    files = {"deep/er/a.txt": "a", "pack/mod.py": "b", "pack/sub/c.txt": "c"}
    root = write_task(tmp_path, files, starter_code=["data/guess/deep/er/a.txt", "data/guess/pack"])
    prepare_workspace(Task.load(root, "guess"), tmp_path / "ws")
    found = {str(path.relative_to(tmp_path / "ws")): path.read_text() for path in (tmp_path / "ws").rglob("*.*")}
    assert found == {"a.txt": "a", "pack/mod.py": "b", "pack/sub/c.txt": "c"}


def test_1_1_only_the_first_baseline_is_run_and_only_if_no_score_is_stored(tmp_path: Path) -> None:
    task = load_table(tmp_path, baseline_scores=[], baseline_paths=["baseline.py", "gone.py"])
    assert play(task)[0].baseline == {"accuracy": 0.25}
    (tmp_path / "data/guess/baseline.py").write_text("1/0")
    stored = load_table(tmp_path, baseline_scores=[{"accuracy": 1}, {"accuracy": 0.9}])
    assert play(stored)[0].baseline == {"accuracy": 1.0}


def test_1_1_differs_a_measured_baseline_is_never_written_into_the_task(tmp_path: Path) -> None:
    # MLGym rewrites the task's file and measures again at every reset; a checkout is only read here.
    task = load_table(tmp_path, baseline_scores=[])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert play(task)[0].baseline == {"accuracy": 0.25}
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "data/guess/baseline.py").write_text("1/0")
    assert play(task)[0].baseline == {"accuracy": 0.25}


def test_1_1_sample_submission_is_not_copied(tmp_path: Path) -> None:
    root = write_table_task(tmp_path, sample_submission="data/guess/sample.csv")
    write_files(root / "data/guess", {"sample.csv": LABELS})
    assert not [name for name in Task.load(root, "guess").all_files() if "sample" in name]


def test_1_1_evaluation_paths_takes_the_first(tmp_path: Path) -> None:
    env, _ = play(load_table(tmp_path, evaluation_paths=["evaluate.py", "gone.py"]), PERFECT, "submit")
    assert env.scores == [{"accuracy": 1.0}]


@pytest.mark.parametrize("load", [load_table, load_duel])
def test_1_1_an_evaluation_that_is_not_there_is_found_at_load(tmp_path: Path, load: Callable[..., Task]) -> None:
    with pytest.raises(TaskError, match="gone.py"):
        load(tmp_path, evaluation_paths=["gone.py"])


def test_1_1_a_path_may_begin_with_a_dot(tmp_path: Path) -> None:
    assert play(load_duel(tmp_path, evaluation_paths=["./evaluate.py"]), "submit")[0].scores == [{"wins": 0.5}]


def test_1_1_a_measured_baseline_is_told_and_rewarded(tmp_path: Path) -> None:
    env, seen = play(load_table(tmp_path, baseline_scores=[]), PERFECT, "validate", "submit")
    assert "Baseline accuracy: 0.2500" in env.describe_task() and "(better than" in seen[1] and env.reward == 3


def test_1_1_evaluation_read_only_is_mode_555(tmp_path: Path) -> None:
    task = load_table(tmp_path)
    prepare_workspace(task, tmp_path / "ws")
    assert (tmp_path / "ws/evaluate.py").stat().st_mode & 0o777 == 0o555
    assert (tmp_path / "ws/baseline.py").stat().st_mode & 0o200


def test_1_1_differs_secret_files_stay_out_of_the_workspace(tmp_path: Path) -> None:
    # The field exists in MLGym and does nothing.
    _, seen = play(load_table(tmp_path, secret_files=["baseline.py"]), "find . -type f")
    assert sorted(seen[0].splitlines()) == ["./data/train.csv", "./evaluate.py"]


def test_1_1_a_written_file_leaves_out_what_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    write_section(path, TaskConfig(id="a", name="A", description="Do.", starter_code=["x"]))
    assert set(yaml.safe_load(path.read_text())) == {
        "id", "name", "description", "starter_code", "task_entrypoint", "use_generic_conda", "evaluation_read_only"}
    assert read_section(path, TaskConfig).starter_code == ["x"]


@pytest.mark.parametrize("key", ["name", "description", "data_path"])
def test_1_2_three_keys_of_a_dataset_are_needed(tmp_path: Path, key: str) -> None:
    root = write_table_task(tmp_path)
    values = {"name": "rows", "description": "", "data_path": "data/rows"}
    values.pop(key)
    write_yaml(root / "configs/datasets/rows.yaml", values)
    with pytest.raises(TaskError, match=f"{key}: Field required"):
        Task.load(root, "guess")


def test_1_2_a_dataset_that_is_not_local_brings_no_files(tmp_path: Path) -> None:
    root = write_table_task(tmp_path)
    write_yaml(root / "configs/datasets/rows.yaml", {"name": "rows", "description": "", "data_path": "org/on-the-hub"})
    assert not [name for name in Task.load(root, "guess").all_files() if name.startswith("data/")]


def test_1_2_splits_are_read_and_change_nothing(tmp_path: Path) -> None:
    plain = load_table(tmp_path).all_files()
    path = tmp_path / "configs/datasets/rows.yaml"
    split = {"name": "train", "file_regex": "train.*"}
    write_yaml(path, yaml.safe_load(path.read_text()) | {"train_split": split, "valid_split": None,
                                                         "test_split": split})
    task = Task.load(tmp_path, "guess")
    assert task.all_files() == plain and task.datasets[0].test_split.file_regex == "train.*"


def test_1_2_docs_are_upper_case_names_and_descriptions_in_order(tmp_path: Path) -> None:
    root = write_table_task(tmp_path, dataset_configs=["datasets/rows.yaml", "datasets/more.yaml"],
                            description="Begin {{x}}.\n{dataset_docs}End.")
    write_yaml(root / "configs/datasets/more.yaml", {"name": "more", "description": "A {brace}.", "data_path": "x"})
    assert Task.load(root, "guess").description == "Begin {x}.\nROWS:\nFour rows.\n\nMORE:\nA {brace}.\n\nEnd."


def test_1_2_the_files_are_copies_and_the_tasks_own_stay_as_they_are(tmp_path: Path) -> None:
    task = load_table(tmp_path)
    play(task, "echo x >> data/train.csv; rm -rf data evaluate.py; ln -s /etc data")
    assert (tmp_path / "data/rows/train.csv").read_text() == "id,y\n9,a\n"
    assert score_submission(task, LABELS.encode(), "all", SANDBOX).metrics == {"accuracy": 1.0}
