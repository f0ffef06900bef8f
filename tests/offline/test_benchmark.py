"""The embedded benchmark: held-out data, stored baseline scores that are real, and room above every baseline."""

from pathlib import Path

import pandas as pd
import pytest

from synthkit.core.paths import cache_dir
from synthkit.gym.sandbox.workspace import run_script
from synthkit.gym.scoring import run_baseline, score_submission
from synthkit.gym.scoring.baseline import measure_improvement
from synthkit.gym.task import Task
from synthkit.offline.benchmark import OWN_CODE, export_benchmark, export_task, load_held_out, make_tables
from synthkit.offline.catalogue import read_catalogue

TASKS = sorted(load_held_out())
MARGIN = 0.1  # Of the baseline's score: more than the choice of a seed moves.
SOLUTION = """
import pandas as pd
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
train, test = pd.read_csv("data/train.csv"), pd.read_csv("data/test.csv")
target = pd.read_csv("data/sample_submission.csv").columns[1]
columns = [c for c in test.columns if c != "id"]
table = pd.get_dummies(pd.concat([train[columns], test[columns]]))
model = Ridge() if train[target].dtype.kind in "if" else LogisticRegression(max_iter=1000)
model = make_pipeline(StandardScaler(), model).fit(table[:len(train)], train[target])
answer = pd.DataFrame({"id": test["id"], target: model.predict(table[len(train):])})
answer.to_csv("submission.csv", index=False)
"""


@pytest.fixture(scope="module")
def root() -> Path:
    return export_benchmark(cache_dir() / "benchmark")


def test_six_tasks_on_six_held_out_datasets() -> None:
    held_out = [entry.dataset for entry in load_held_out().values()]
    assert len(held_out) == 6
    assert sorted(held_out) == sorted(entry.id for entry in read_catalogue().values() if entry.held_out)
    assert {entry.task_kind for entry in load_held_out().values()} == {"classification", "regression"}


@pytest.mark.parametrize("task_id", TASKS)
def test_task_shows_no_label_and_repeats_no_row(root: Path, task_id: str) -> None:
    task = Task.load(root, task_id)
    files = task.all_files()
    names = ("train", "test", "answers", "sample_submission")
    tables = {name: pd.read_csv(files[f"data/{name}.csv"]) for name in names}
    target = task.meta.target
    assert "data/answers.csv" not in task.public_files()
    assert list(tables["test"].columns) == ["id", *(name for name in tables["train"].columns if name != target)]
    assert list(tables["sample_submission"].columns) == list(tables["answers"].columns) == ["id", target]
    assert list(tables["test"]["id"]) == list(tables["answers"]["id"]) == list(tables["sample_submission"]["id"])
    assert tables["sample_submission"][target].nunique() == 1
    assert 118 <= len(tables["train"]) <= 600 and 60 <= len(tables["test"]) <= 300
    both = tables["train"].merge(tables["test"].merge(tables["answers"], on="id"), on=list(tables["train"].columns))
    assert len(both) <= 0.1 * len(tables["test"])


@pytest.mark.parametrize("task_id", TASKS)
def test_baseline_lies_between_the_trivial_and_a_generic_solution(root: Path, task_id: str) -> None:
    task = Task.load(root, task_id)
    metric, meta = task.meta.metric or "", task.meta
    baseline = {metric: meta.baseline_private}
    assert min(meta.baseline_public, meta.baseline_private, meta.trivial_score) > 0
    assert measure_improvement(task, {metric: meta.trivial_score}, baseline) < -MARGIN
    _, left = run_script({**task.public_files(), "solution.py": SOLUTION}, "python solution.py", OWN_CODE, 60,
                         keep=["submission.csv"])
    score = score_submission(task, left.get("submission.csv"), "private", OWN_CODE)
    assert score.metrics is not None, score.message
    assert measure_improvement(task, score.metrics, baseline) > MARGIN


def test_stored_scores_are_those_of_the_baseline(root: Path) -> None:
    task = Task.load(root, "sunspotForecast")
    _, submission = run_baseline(task, OWN_CODE)
    for part, stored in (("public", task.meta.baseline_public), ("private", task.meta.baseline_private)):
        assert score_submission(task, submission, part, OWN_CODE).metrics == {"rmse": stored}
    assert task.config.baseline_scores == [{"rmse": task.meta.baseline_private}]


def test_an_export_gives_the_same_files_again(root: Path, tmp_path: Path) -> None:
    held_out, task = load_held_out()["wineCultivar"], Task.load(root, "wineCultivar")
    export_task(tmp_path, "wineCultivar", held_out, task.meta.dataset_revision or "")
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert files and all((root / path).read_bytes() == (tmp_path / path).read_bytes() for path in files)


def test_sunspots_are_forecast_from_the_past_and_no_test_row_shows_the_label_of_another() -> None:
    tables = make_tables(load_held_out()["sunspotForecast"])
    months = {name: table["year"] * 12 + table["month"] for name, table in tables.items() if "year" in table}
    assert months["train"].max() < months["test"].min()
    for lag in read_catalogue()["statsmodels/sunspots"].lags:
        assert not set(months["test"] - lag) & set(months["test"])
