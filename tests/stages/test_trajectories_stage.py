"""Stage 05: real episodes with a teacher on loopback, the filter, the training rows, resuming and byte identity."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.loopback_teacher import Teacher, serve_teacher
from kits.stage_kit import ANSWERS, finish_drafts, open_with

from synthkit.core.files import read_records
from synthkit.core.params import TrajectoriesParams
from synthkit.core.stage import Stage
from synthkit.records import Rollout, SftExample
from synthkit.stages.self_debug import stage as self_debug
from synthkit.stages.trajectories import stage as trajectories
from synthkit.stages.trajectories.filter import judge_rollouts

SANDBOX = {"backend": "bwrap" if shutil.which("bwrap") else "process"}
RECORDS = ("rollouts.jsonl", "sft.jsonl", "refused.jsonl")


def act(messages: list[dict[str, str]]) -> str:
    """Run the baseline, validate, submit."""
    turn = sum(message["role"] == "assistant" for message in messages)
    return f"DISCUSSION\nNext.\n```\n{['python baseline.py', 'validate', 'submit'][min(turn, 2)]}\n```"


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    with serve_teacher(ANSWERS) as teacher:
        finish_drafts(run_dir, teacher)
        stage = open_with("04_self_debug", run_dir, teacher, sandbox=SANDBOX)
        self_debug.run(stage)
        self_debug.finish(stage)
    return run_dir


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    with serve_teacher({"": act}) as served:
        yield served


def play(run_dir: Path, teacher: Any, **values: Any) -> Stage:
    stage = open_with("05_trajectories", run_dir, teacher, sandbox=SANDBOX, per_task=2, max_steps=4, **values)
    trajectories.run(stage)
    return stage


def test_rollouts_are_saved_filtered_and_resumed(verified: Path, teacher: Teacher) -> None:
    stage = play(verified, teacher)
    whole, asked = {name: (stage.dir / name).read_bytes() for name in RECORDS}, len(teacher.asked)
    rows = trajectories.read_rollouts(stage)
    assert [(row.id, row.exit_status, row.steps) for row in rows] == [
        ("iris-species-t001/000", "submitted", 3), ("iris-species-t001/001", "submitted", 3)]
    assert rows[0].seed != rows[1].seed and rows[0].score is not None and rows[0].validated is not None
    assert [row.reason for row in rows] == [None, "duplicate"], "the script plays the same twice"
    (row,) = read_records(stage.dir / "sft.jsonl", SftExample)
    assert [message.role for message in row.messages] == ["system", *["user", "assistant"] * 3]
    assert row.messages[-1].content.endswith("```\nsubmit\n```")
    trajectories.check(stage)

    (stage.dir / "rollouts.jsonl").write_bytes(whole["rollouts.jsonl"].splitlines(keepends=True)[1])
    (stage.dir / "sft.jsonl").unlink()
    stage = play(verified, teacher)
    assert {name: (stage.dir / name).read_bytes() for name in RECORDS} == whole and len(teacher.asked) == asked
    assert trajectories.funnel(stage) == (2, 1, {"duplicate": 1}, {})
    assert trajectories.finish(stage)["metrics"]["tasks"] == 1


def test_the_prompt_shown_is_the_prompt_sent(verified: Path, teacher: Teacher) -> None:
    stage = play(verified, teacher)
    shown = trajectories.show_prompt(stage, trajectories.load_inputs(stage)[0])
    (sent, *_) = read_records(stage.dir / "sft.jsonl", SftExample)
    assert shown[0] == sent.to_chat()[0]
    assert sent.messages[1].content.startswith(shown[1]["content"])
    assert "Baseline accuracy: 0." in shown[1]["content"] and "answers" not in shown[1]["content"]


def test_a_rollout_that_goes_nowhere_is_a_record(verified: Path) -> None:
    with serve_teacher({"": lambda messages: "I have nothing to do."}) as teacher:
        stage = play(verified, teacher, seed=1)
    rows = trajectories.read_rollouts(stage)
    assert {row.reason for row in rows} == {"format_exit"} and not read_records(stage.dir / "sft.jsonl")
    assert trajectories.folder_of(stage, rows[0].task_id, 1).is_dir()


def make_rollout(number: int, **values: Any) -> Rollout:
    base: dict[str, Any] = {
        "id": f"t/{number:03d}", "task_id": "t", "rollout": number, "seed": 1, "exit_status": "submitted", "steps": 3,
        "n_tokens": 100, "score": 0.5, "validated": 0.5, "baseline": 0.4, "better": True, "tokens_in": 1,
        "tokens_out": 1, "usd": 0.0, "conversation_hash": f"w{number}"}
    return Rollout(**(base | values))


@pytest.mark.parametrize(("values", "reason"), [
    ({}, None),
    ({"exit_status": "autosubmission (max_steps)"}, None),
    ({"n_tokens": 1001}, "too_long"),
    ({"score": None, "exit_status": "submission_not_found (max_steps)"}, "no_submission"),
    ({"score": None, "exit_status": "evaluation_format_error (submit)"}, "bad_submission"),
    ({"score": None, "exit_status": "skipped"}, "gave_up"),
    ({"exit_status": "autosubmission (exit_format)"}, "format_exit"),
    ({"score": None, "exit_status": "submission_not_found (exit_api)"}, "api_exit"),
])
def test_the_filter_has_a_typed_reason_for_each_refusal(values: dict[str, Any], reason: str | None) -> None:
    (row,) = judge_rollouts([make_rollout(0, **values)], TrajectoriesParams(max_tokens=1000))
    assert (row.reason, row.kept) == (reason, reason is None)


def test_the_cap_counts_what_is_kept_only() -> None:
    rows = [make_rollout(0, score=None), make_rollout(1), make_rollout(2), make_rollout(3, task_id="other")]
    judged = judge_rollouts(rows, TrajectoriesParams(max_kept_per_task=1))
    assert [row.reason for row in judged] == ["no_submission", None, "over_cap", None]
