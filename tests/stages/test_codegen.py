"""Stage 03: what the teacher is shown, what the kit writes around its code, and losses."""

from pathlib import Path

import pytest
from kits.loopback_teacher import serve_teacher
from kits.stage_kit import ANSWERS, BASELINE, finish_datasets, finish_drafts, open_with

from synthkit.core.errors import StageError
from synthkit.gym.task import Task
from synthkit.stages.codegen import stage as codegen


def test_a_draft_is_a_task_that_hides_its_answers(tmp_path: Path) -> None:
    with serve_teacher(ANSWERS) as teacher:
        stage = finish_drafts(tmp_path, teacher, time_limit_s=30, sample_rows=2)
        prompt = teacher.asked[-1][1]
    task = Task.load(stage.dir / "tasks", "iris-species-t001")
    assert sorted(task.public_files()) == ["baseline.py", "data/sample_submission.csv", "data/test.csv",
                                           "data/train.csv", "evaluate.py"]
    assert (task.metric, task.direction, task.meta.target) == ("accuracy", "maximize", "species")
    assert task.meta.dataset_id == "scikit-learn/iris" and task.meta.licence and task.meta.dataset_revision
    assert task.config.training_timeout == 30 and task.all_files()["baseline.py"].read_text() == BASELINE
    text = prompt[1]["content"]
    for line in ("Topic: Flowers 1", "Dataset: scikit-learn/iris", "Target: species", "Metric: accuracy", "Attempt: 1"):
        assert line in text.splitlines()
    assert "within 30 seconds" in prompt[0]["content"]
    assert "answers.csv begins" not in text and "id,species" in text


def test_a_bad_reply_is_a_typed_loss_and_the_rest_goes_on(tmp_path: Path) -> None:
    first = "iris-species-t001"
    answers = ANSWERS | {"TaskCode": lambda messages: "sorry" if f"Task id: {first}" in messages[1]["content"]
                         else ANSWERS["TaskCode"](messages)}
    with serve_teacher(answers) as teacher:
        stage = finish_drafts(tmp_path, teacher, 2)
    assert codegen.funnel(stage) == (2, 1, {"bad_reply": 1}, {})
    codegen.check(stage)
    assert codegen.load_drafts(stage)[0]["baseline_py"] == BASELINE


def test_resume_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    with serve_teacher(ANSWERS) as teacher:
        finish_datasets(tmp_path, teacher, 2)
        stage = open_with("03_codegen", tmp_path, teacher)
        codegen.run(stage)
        path = stage.dir / "drafts.jsonl"
        whole, asked = path.read_bytes(), len(teacher.asked)
        path.write_bytes(whole.splitlines(keepends=True)[1] + b'{"task_id": "torn')
        codegen.run(open_with("03_codegen", tmp_path, teacher))
        assert path.read_bytes() == whole and len(teacher.asked) == asked
        (stage.dir / "tasks" / "data" / "iris-species-t002" / "baseline.py").write_text("changed")
        with pytest.raises(StageError, match="not what the record says"):
            codegen.check(stage)
