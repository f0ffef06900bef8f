"""Tasks on disk: written and read back, an MLGym checkout's layout, and faults that MLGym lets pass."""

from pathlib import Path

import pytest
import yaml

from synthkit.core.errors import TaskError
from synthkit.gym.task import Task, build_csv_task, list_tasks, write_task
from synthkit.gym.task.config import TaskConfig, TaskMeta

META = TaskMeta(metric="accuracy", direction="maximize", task_kind="classification", target="kind",
                baseline_public=0.5, baseline_private=0.6, dataset_id="org/wine", dataset_revision="a" * 40,
                licence="cc-by-4.0")
FILES = {
    "baseline.py": "print('hello')\n", "evaluate.py": "print('{}')\n", "data/train.csv": "a,kind\n1,x\n",
    "data/test.csv": "id,a\n0,1\n", "data/sample_submission.csv": "id,kind\n0,x\n",
    "data/answers.csv": "id,kind\n0,x\n",
}


def write_wine(root: Path, description: str = "Tell the kind: {{x, y}}.\n\n{dataset_docs}", **files: str) -> None:
    config, dataset = build_csv_task("wine", "Wine kinds", description, "Has {braces}.", time_limit_s=60, meta=META)
    write_task(root, config, [dataset], META, FILES | files)


def change_yaml(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def test_a_written_task_reads_back_the_same(tmp_path: Path) -> None:
    write_wine(tmp_path)
    task = Task.load(tmp_path, "wine")
    assert list_tasks(tmp_path) == ["wine"]
    assert task.description == "Tell the kind: {x, y}.\n\nWINE KINDS:\nHas {braces}."
    assert task.config.baseline_scores == [{"accuracy": 0.6}]
    assert task.meta.model_copy(update={"hashes": {}}) == META
    assert set(task.meta.hashes) == set(FILES)
    assert (task.metric, task.direction) == ("accuracy", "maximize")


def test_answers_are_secret_and_the_rest_is_laid_out_as_mlgym_does(tmp_path: Path) -> None:
    write_wine(tmp_path)
    task = Task.load(tmp_path, "wine")
    assert list(task.public_files()) == [
        "baseline.py", "evaluate.py", "data/sample_submission.csv", "data/test.csv", "data/train.csv"]
    assert set(task.all_files()) - set(task.public_files()) == {"data/answers.csv"}


def test_writing_is_deterministic_and_keeps_files_when_none_are_given(tmp_path: Path) -> None:
    write_wine(tmp_path / "a")
    write_wine(tmp_path / "b")
    contents = [{str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
                for root in (tmp_path / "a", tmp_path / "b")]
    assert contents[0] == contents[1]
    task = Task.load(tmp_path / "a", "wine")
    write_task(tmp_path / "a", task.config, task.datasets, task.meta, {})
    assert Task.load(tmp_path / "a", "wine").meta == task.meta


def test_a_task_of_an_mlgym_checkout_needs_no_synthkit_yaml(tmp_path: Path) -> None:
    (tmp_path / "configs/tasks").mkdir(parents=True)
    (tmp_path / "data/blotto").mkdir(parents=True)
    (tmp_path / "data/blotto/target.py").write_text("pass")
    config = {"id": "blotto", "name": "Blotto", "description": "Play.", "task_entrypoint": "PythonSubmissionTasks",
              "starter_code": ["data/blotto/target.py"], "baseline_scores": [{"Score": -1}], "benchmark_name": None}
    (tmp_path / "configs/tasks/blotto.yaml").write_text(yaml.safe_dump(config))
    task = Task.load(tmp_path, "blotto")
    assert task.meta.score_on == "all"
    assert (task.metric, task.direction, task.config.baseline_scores) == ("Score", "maximize", [{"Score": -1.0}])


def test_a_second_dataset_lands_in_the_first(tmp_path: Path) -> None:
    write_wine(tmp_path)
    extra = tmp_path / "data/more"
    extra.mkdir()
    (extra / "x.csv").write_text("1")
    (tmp_path / "configs/datasets/more.yaml").write_text(
        yaml.safe_dump({"name": "more", "description": "", "data_path": "data/more", "is_local": True}))
    change_yaml(tmp_path / "configs/tasks/wine.yaml", dataset_configs=["datasets/wine.yaml", "datasets/more.yaml"])
    assert "data/more/x.csv" in Task.load(tmp_path, "wine").public_files()


@pytest.mark.parametrize(("changes", "fault"), [
    ({"descripton": "x"}, "did you mean 'description'"),
    ({"name": None}, "name: Field required"),
    ({"description": "A set {1, 2}"}, "unescaped brace"),
    ({"description": "A brace {"}, "description"),
    ({"description": "{dataset_docs:{x}}"}, "description"),
    ({"starter_code": ["data/wine/gone.py"]}, "is missing"),
    ({"starter_code": ["../../etc"]}, "leads out"),
    ({"evaluation_paths": ["score.py"]}, "not in its workspace"),
    ({"secret_files": ["data/labels.csv"]}, "not in its workspace"),
    ({"secret_files": []}, "answers.csv is not secret"),
    ({"dataset_configs": []}, "not in its workspace"),
    ({"id": "../wine"}, "id: "),
    ({"task_entrypoint": "OtherTasks"}, "task_entrypoint"),
])
def test_faults_are_named(tmp_path: Path, changes: dict, fault: str) -> None:
    write_wine(tmp_path)
    change_yaml(tmp_path / "configs/tasks/wine.yaml", **changes)
    with pytest.raises(TaskError, match=fault):
        Task.load(tmp_path, "wine")


def test_an_unknown_task_names_the_nearest(tmp_path: Path) -> None:
    write_wine(tmp_path)
    with pytest.raises(TaskError) as caught:
        Task.load(tmp_path, "wines")
    assert "did you mean 'wine'" in str(caught.value)


def test_a_kit_task_needs_metric_and_target(tmp_path: Path) -> None:
    write_wine(tmp_path)
    (tmp_path / "data/wine/synthkit.yaml").write_text("metric: accuracy\n")
    with pytest.raises(TaskError, match="direction or target"):
        Task.load(tmp_path, "wine")


def test_multi_line_texts_survive_yaml(tmp_path: Path) -> None:
    text = "One:\n  two \n\tthree\n# four: 'x' \"y\"\n---\nñ – ü"
    write_wine(tmp_path, text)
    assert Task.load(tmp_path, "wine").description.startswith(text)
    assert TaskConfig.model_validate(yaml.safe_load((tmp_path / "configs/tasks/wine.yaml").read_text()))
