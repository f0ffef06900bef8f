"""Scores come from the vault: the form of a submission, the two halves, and what an evaluation may print."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from synthkit.core.errors import TaskError
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox.workspace import BadFile, prepare_workspace, read_file, run_script
from synthkit.gym.scoring import run_baseline, score_submission
from synthkit.gym.scoring.csv_form import check_form, choose_rows
from synthkit.gym.task import Task, build_csv_task, write_task
from synthkit.gym.task.config import TaskMeta

PARAMS = SandboxParams(backend="bwrap" if shutil.which("bwrap") else "process", warm=False)
IDS = [str(number) for number in range(20)]
ANSWERS = {key: str(int(key) % 3) for key in IDS}
BASELINE = "print('id,y', *(f'{i},0' for i in range(20)), sep='\\n', file=open('submission.csv', 'w'))"
EVALUATE = """import argparse, csv, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--submission_file")
said = {row["id"]: row["y"] for row in csv.DictReader(open(parser.parse_args().submission_file))}
truth = list(csv.DictReader(open(pathlib.Path(__file__).parent / "data/answers.csv")))
print(json.dumps({"accuracy": sum(said[row["id"]] == row["y"] for row in truth) / len(truth), "rows": len(said)}))
"""


def table(values: dict[str, str]) -> str:
    return "id,y\n" + "".join(f"{key},{value}\n" for key, value in values.items())


def make_task(root: Path, *, evaluate: str = EVALUATE, kind: str = "classification") -> Task:
    meta = TaskMeta(metric="accuracy", direction="maximize", task_kind=kind, target="y")
    config, dataset = build_csv_task("toy", "Toy", "Guess y.", "Rows.", time_limit_s=300, meta=meta)
    write_task(root, config, [dataset], meta, {
        "baseline.py": BASELINE, "evaluate.py": evaluate, "data/train.csv": "id,y\n",
        "data/test.csv": "id\n" + "\n".join(IDS), "data/answers.csv": table(ANSWERS),
        "data/sample_submission.csv": table(dict.fromkeys(IDS, "0")),
    })
    return Task.load(root, "toy")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Task]:
    yield make_task(tmp_path_factory.mktemp("root"))


def test_the_halves_are_scored_apart(task: Task) -> None:
    public, private = (set(choose_rows("toy", IDS, part)) for part in ("public", "private"))
    assert (len(public), len(private), public | private) == (10, 10, set(IDS))
    assert set(choose_rows("toy", IDS[::-1], "public")) == public != set(choose_rows("other", IDS, "public"))
    only_public = table({key: ANSWERS[key] if key in public else "x" for key in IDS}).encode()
    assert score_submission(task, only_public, "public", PARAMS).metrics == {"accuracy": 1.0, "rows": 10.0}
    assert score_submission(task, only_public, "private", PARAMS).metrics == {"accuracy": 0.0, "rows": 10.0}
    assert score_submission(task, only_public, "all", PARAMS).metrics == {"accuracy": 0.5, "rows": 20.0}


def test_the_baseline_runs_on_public_files_only(task: Task, tmp_path: Path) -> None:
    result, submission = run_baseline(task, PARAMS)
    assert (result.exit_code, result.output) == (0, "")
    assert check_form(task, submission) == ""
    prepare_workspace(task, tmp_path)
    assert not (tmp_path / "data/answers.csv").exists()
    assert sorted(os.listdir(tmp_path)) == ["baseline.py", "data", "evaluate.py"]
    assert (tmp_path / "evaluate.py").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("change, said", [
    (lambda text: b"", "is empty"),
    (lambda text: text.replace("id,y", "id,z").encode(), "expected are id, y"),
    (lambda text: text.replace("\n3,0", "\n3,0,1").encode(), "more or fewer values"),
    (lambda text: text.replace("\n3,0", "").encode(), "1 are missing, 0 are unknown (19 rows, expected 20)"),
    (lambda text: text.replace("\n3,", "\n33,").encode(), "1 are missing, 1 are unknown"),
    (lambda text: text.replace("\n3,", "\n4,").encode(), "1 duplicate ids"),
    (lambda text: text.replace("\n3,0", "\n3,").encode(), "1 values are missing, the first at id 3"),
    (lambda text: text.replace("\n3,0", "\n3,NaN").encode(), "1 values are missing"),
    (lambda text: b"\xff\xfe" + text.encode("utf-16-le"), "not a CSV file"),
    (lambda text: text.replace("\n3,0", '\n3,"0').encode(), "not a CSV file"),
])
def test_a_bad_form_is_named(task: Task, change: Callable[[str], bytes], said: str) -> None:
    score = score_submission(task, change(table(dict.fromkeys(IDS, "0"))), "public", PARAMS)
    assert (score.metrics, score.failure) == (None, "bad_submission")
    assert said in score.message


def test_harmless_differences_are_not_faults(task: Task) -> None:
    rows = "".join(f"{key}.0,{ANSWERS[key]}\r\n" for key in IDS[::-1])
    assert score_submission(task, f"\ufeffid,y\r\n{rows}\r\n".encode(), "all", PARAMS).metrics["accuracy"] == 1.0


def test_a_regression_wants_finite_numbers(tmp_path: Path) -> None:
    task = make_task(tmp_path, kind="regression")
    assert "1 values are not finite numbers" in check_form(task, table(ANSWERS | {"3": "inf"}).encode())
    assert "1 values are not finite numbers" in check_form(task, table(ANSWERS | {"3": "many"}).encode())


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def grow(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("make", [link, Path.mkdir, os.mkfifo, grow])
def test_what_is_no_plain_file_is_not_taken(task: Task, tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "submission.csv"
    assert score_submission(task, path, "public", PARAMS).failure == "submission_not_found"
    make(path)
    assert score_submission(task, path, "public", PARAMS).failure == "bad_submission"


def test_no_folder_on_the_way_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("secret")
    (tmp_path / "way").symlink_to("real")
    assert read_file(tmp_path, "real/file") == b"secret"
    with pytest.raises(BadFile):
        read_file(tmp_path, "way/file")


@pytest.mark.parametrize("program, failure, said", [
    ("print('{\"accuracy\": NaN}')", "evaluation_format_error", "NaN"),
    ("print('{\"accuracy\": 1e999}')", "evaluation_format_error", "finite"),
    ("print('{\"accuracy\": true}')", "evaluation_format_error", "finite"),
    ("print('hello\\n{\"accuracy\": 1}')", "evaluation_format_error", "hello"),
    ("print('{}')", "evaluation_format_error", ""),
    ("print('[' * 100000)", "evaluation_format_error", "[["),
    ("raise ValueError('column y is odd')", "bad_submission", "ValueError: column y is odd"),
    ("import os; os.remove('.evaluation.json'); os.symlink('/etc/passwd', '.evaluation.json')",
     "evaluation_format_error", ""),
    ("while True: pass", "evaluation_timeout", "1 s"),
])
def test_an_evaluation_that_goes_wrong(tmp_path: Path, program: str, failure: str, said: str) -> None:
    task = make_task(tmp_path, evaluate=program)
    if failure == "evaluation_timeout":
        task.config.training_timeout = 1
    score = score_submission(task, table(ANSWERS).encode(), "public", PARAMS)
    assert (score.metrics, score.failure) == (None, failure)
    assert said in score.message
    assert "root:" not in score.message


def test_warnings_do_not_spoil_a_score(tmp_path: Path) -> None:
    task = make_task(tmp_path, evaluate="import sys; print('careful', file=sys.stderr); print('{\"a\": 1}\\n\\n')")
    assert score_submission(task, table(ANSWERS).encode(), "private", PARAMS).metrics == {"a": 1.0}


def test_tasks_that_cannot_be_scored_are_refused(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    answers = tmp_path / "data/toy/data/answers.csv"
    answers.write_text(table({"99": "1"}))
    with pytest.raises(TaskError, match="differ in their ids"):
        score_submission(task, table(ANSWERS).encode(), "public", PARAMS)
    task.config.evaluation_paths = []
    with pytest.raises(TaskError, match="has no evaluation"):
        score_submission(task, None, "public", PARAMS)


def test_a_script_runs_by_itself() -> None:
    files = {"a/b.txt": "in", "run.py": "print(open('a/b.txt').read()); open('out', 'w').write(json.dumps([1]))"}
    files["run.py"] = f"import json; {files['run.py']}"
    result, left = run_script(files, "python run.py", PARAMS, 300, keep=["out", "none"])
    assert (result.output, {name: json.loads(data) for name, data in left.items()}) == ("in\n", {"out": [1]})
