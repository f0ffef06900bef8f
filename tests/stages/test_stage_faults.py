"""Faults of the infrastructure in stages 05 and 07: whose they are, and how a later call ends as if there were none."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.loopback_teacher import Raw, Teacher, complete, fail, serve_teacher
from kits.stage_kit import ANSWERS, finish_drafts, open_with

from synthkit.core.chain import load_stage_record
from synthkit.core.errors import BudgetError, EndpointError, StageError
from synthkit.core.files import FORMAT, read_records
from synthkit.core.opening import open_stage
from synthkit.core.params import STAGES
from synthkit.core.stage import Stage
from synthkit.core.worklist import read_owed
from synthkit.gym.trajectory import Trajectory
from synthkit.stages.mlgym_eval import stage as mlgym_eval
from synthkit.stages.self_debug import stage as self_debug
from synthkit.stages.trajectories import stage as trajectories

SANDBOX = {"backend": "bwrap" if shutil.which("bwrap") else "process"}
ACTIONS = ("ls", "python baseline.py", "validate", "submit")
RECORDS = ("rollouts.jsonl", "sft.jsonl", "refused.jsonl")
# As vLLM says it (entrypoints/openai, VLLMValidationError).
OVERFLOW = fail(400, None, "This model's maximum context length is 40960 tokens. However, your request has 41000 input "
                "tokens. Please reduce the length of the input messages.", "input_tokens")


def act(messages: list[dict[str, str]]) -> str:
    turn = sum(message["role"] == "assistant" for message in messages)
    return f"DISCUSSION\nNext.\n```\n{ACTIONS[min(turn, len(ACTIONS) - 1)]}\n```"


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two verified tasks."""
    run_dir = tmp_path_factory.mktemp("run")
    with serve_teacher(ANSWERS) as teacher:
        finish_drafts(run_dir, teacher, 2)
        stage = open_with("04_self_debug", run_dir, teacher, sandbox=SANDBOX)
        self_debug.run(stage)
        self_debug.finish(stage)
    return run_dir


@pytest.fixture
def run_dir(verified: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(verified, tmp_path / "run"))


def open_rollouts(run_dir: Path, teacher: Teacher, **values: Any) -> Stage:
    return open_with("05_trajectories", run_dir, teacher, sandbox=SANDBOX, per_task=3, max_steps=6, **values)


def read_bytes(stage: Stage) -> dict[str, bytes]:
    return {name: (stage.dir / name).read_bytes() for name in RECORDS}


@pytest.fixture
def calm(run_dir: Path, tmp_path: Path) -> tuple[dict[str, bytes], int]:
    """What six rollouts leave that nothing disturbs, and how many requests they take."""
    with serve_teacher({"": act}) as teacher:
        stage = open_rollouts(Path(shutil.copytree(run_dir, tmp_path / "calm")), teacher)
        trajectories.run(stage)
        return read_bytes(stage), len(teacher.asked)


class Storm:
    """Answers as `act` does, but for the requests in `bad`, counted from 1, which get a status of their own."""

    def __init__(self, bad: Iterator[int] | range, fault: Raw):
        self.bad, self.fault, self.count, self.over = bad, fault, 0, False

    def __call__(self, messages: list[dict[str, str]]) -> Any:
        self.count += 1
        return self.fault if self.count in self.bad and not self.over else act(messages)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_rollouts_of_a_storm_are_owed_and_go_on_where_they_were(
        run_dir: Path, calm: tuple[dict[str, bytes], int], status: int) -> None:
    storm = Storm(range(4, 12), fail(status))
    with serve_teacher({"": storm}) as teacher:
        stage = open_rollouts(run_dir, teacher)
        with pytest.raises(StageError, match=r"05_trajectories still owes \d of 6 \(endpoint \d\)"):
            trajectories.run(stage)
        owed = read_owed(stage)
        assert owed and all(row.reason == "endpoint" for row in owed.values())
        assert not any("exit_api" in row.exit_status for row in trajectories.read_rollouts(stage))
        requested, kept, refused, due = trajectories.funnel(stage)
        assert requested == 6 == kept + sum(refused.values()) + sum(due.values())
        assert load_stage_record(run_dir, "05_trajectories") is None
        storm.over, failed = True, 8
        stage = open_rollouts(run_dir, teacher)
        trajectories.run(stage)
        trajectories.check(stage)
        assert trajectories.finish(stage)["owed"] == 0
        assert read_bytes(stage) == calm[0]
        assert len(teacher.asked) - failed <= calm[1], "no reply that had arrived is asked for again"


def test_a_stage_may_finish_owing_what_its_parameters_allow(run_dir: Path) -> None:
    with serve_teacher({"": Storm(range(4, 6), fail(503))}) as teacher:
        stage = open_rollouts(run_dir, teacher, allow_owed=0.5)
        trajectories.run(stage)
        record = trajectories.finish(stage)
    assert 1 <= record["owed"] <= 2 and record["kept"] + sum(record["refused"].values()) + record["owed"] == 6


def test_a_full_context_window_ends_that_episode_alone(run_dir: Path) -> None:
    """In vLLM's words, whose `param` once stopped the whole stage."""
    with serve_teacher({"": Storm(range(5, 6), OVERFLOW)}) as teacher:
        stage = open_rollouts(run_dir, teacher, workers=1)
        rows = trajectories.run(stage)
    assert sum("exit_context" in row.exit_status for row in rows) == 1 and len(rows) == 6
    assert sum(row.reason == "context_exit" for row in rows) == 1


def test_an_episode_that_was_killed_goes_on_after_its_last_step(
        run_dir: Path, calm: tuple[dict[str, bytes], int]) -> None:
    """The reply cache is taken away, so that only the saved steps can save requests."""
    with serve_teacher({"": act}) as teacher:
        stage = open_rollouts(run_dir, teacher)
        trajectories.run(stage)
        folder = trajectories.folder_of(stage, "iris-species-t001", 1)
        whole = Trajectory.load(folder)
        cut_back(whole, 2).save(folder)
        (stage.dir / "rollouts.jsonl").unlink()
        (run_dir / "llm_cache.sqlite").unlink()
        asked = len(teacher.asked)
        stage = open_rollouts(run_dir, teacher)
        trajectories.run(stage)
        assert read_bytes(stage) == calm[0]
        assert len(teacher.asked) - asked == len(whole.steps) - 2
    again = Trajectory.load(folder)
    assert [step.action for step in again.steps] == [step.action for step in whole.steps]
    assert again.scores == whole.scores and again.api_calls == whole.api_calls


def cut_back(trajectory: Trajectory, steps: int) -> Trajectory:
    """A trajectory as it was saved after some of its steps."""
    early = copy.deepcopy(trajectory)
    early.steps, early.step_usage = early.steps[:steps], early.step_usage[:steps]
    early.messages, early.exit_status, early.scores, early.parts = early.messages[:1 + 2 * steps], "", [], []
    early.api_calls = steps
    return early


def test_an_episode_that_answers_otherwise_now_is_kept_aside_and_starts_anew(
        run_dir: Path, calm: tuple[dict[str, bytes], int]) -> None:
    with serve_teacher({"": act}) as teacher:
        stage = open_rollouts(run_dir, teacher)
        trajectories.run(stage)
        folder = trajectories.folder_of(stage, "iris-species-t001", 0)
        early = cut_back(Trajectory.load(folder), 2)
        early.steps[0].observation = "total 12"
        early.save(folder)
        (stage.dir / "rollouts.jsonl").unlink()
        stage = open_rollouts(run_dir, teacher)
        trajectories.run(stage)
        assert read_bytes(stage) == calm[0]
    aside = Trajectory.load(folder.with_name(f"{folder.name}.aside-1"))
    assert aside.steps[0].observation == "total 12" and not aside.exit_status


def test_a_fault_of_the_kit_at_one_rollout_costs_no_other_and_ends_the_stage_for_no_one(
        run_dir: Path, calm: tuple[dict[str, bytes], int]) -> None:
    task = run_dir / "04_self_debug" / "tasks" / "configs" / "tasks" / "iris-species-t002.yaml"
    task.write_text("id: [")
    with serve_teacher({"": act}) as teacher:
        stage = open_rollouts(run_dir, teacher)
        with pytest.raises(StageError, match=r"still owes 3 of 6 \(unexpected 3\)"):
            trajectories.run(stage)
        assert len(trajectories.read_rollouts(stage)) == 3
        stage = open_rollouts(run_dir, teacher)
        rows = trajectories.run(stage)
        trajectories.check(stage)
        assert trajectories.finish(stage)["refused"]["kit_fault"] == 3
    assert [row.reason for row in rows[3:]] == ["kit_fault"] * 3
    undisturbed = map(json.loads, calm[0]["rollouts.jsonl"].splitlines()[:3])
    assert [row.model_dump() | {"format": FORMAT} for row in rows[:3]] == list(undisturbed)


def test_a_budget_that_is_spent_stops_at_once_and_loses_nothing(run_dir: Path) -> None:
    prices = {"usd_per_mtok_in": 1.0, "usd_per_mtok_out": 1.0, "max_output_tokens": 100}
    with serve_teacher({"": lambda messages: Raw(body=complete(act(messages), (1000, 50)))}) as teacher:
        small = {"teacher": teacher.params | prices | {"budget_usd": 0.015}}
        stage = open_stage("05_trajectories", {"run_dir": str(run_dir), "sandbox": SANDBOX, "per_task": 3,
                                               "max_steps": 6, **small})
        with pytest.raises(BudgetError):
            trajectories.run(stage)
        assert not read_owed(stage), "what a person must act on counts as no try"
        asked = len(teacher.asked)
        small["teacher"]["budget_usd"] = 9.0
        stage = open_stage("05_trajectories", {"run_dir": str(run_dir), "sandbox": SANDBOX, "per_task": 3,
                                               "max_steps": 6, **small})
        trajectories.run(stage)
        assert 0 < asked < len(teacher.asked) <= 24, "24 turns in all, none of them twice"


def finish_before_evaluation(run_dir: Path, weights: str) -> None:
    """Stages 01 to 06 as finished, with a student of these weights."""
    for name in list(STAGES)[:6]:
        stage = open_stage(name, {"run_dir": str(run_dir)})
        if name == "06_sft":
            (stage.dir / "student").mkdir(exist_ok=True)
            (stage.dir / "student" / "model.safetensors").write_text(weights)
        stage.finish(0, 0, {})


def evaluate(run_dir: Path, teacher: Teacher, **values: Any) -> Stage:
    stage = open_with("07_mlgym_eval", run_dir, teacher, tasks=["wineCultivar"], runs=1, max_steps=4, sandbox=SANDBOX,
                      student={"base_url": teacher.url}, **values)
    mlgym_eval.run(stage)
    return stage


def test_a_retrained_student_that_is_served_is_not_answered_by_the_old_one(tmp_path: Path) -> None:
    finish_before_evaluation(tmp_path, "old weights")
    with serve_teacher({"": act}) as teacher:
        evaluate(tmp_path, teacher)
        before = [body["model"] for body in teacher.bodies]
        finish_before_evaluation(tmp_path, "new weights")
        evaluate(tmp_path, teacher)
        after = [body["model"] for body in teacher.bodies][len(before):]
    assert before.count("student") == after.count("student") > 0
    assert "loopback" in before and "loopback" not in after, "the teacher is the same and its replies are kept"


def test_a_storm_is_no_failure_of_the_model_that_is_evaluated(tmp_path: Path) -> None:
    finish_before_evaluation(tmp_path / "calm", "weights")
    finish_before_evaluation(tmp_path / "rough", "weights")
    with serve_teacher({"": act}) as teacher:
        calm = mlgym_eval.read_runs(evaluate(tmp_path / "calm", teacher))
    storm = Storm(range(2, 1000), fail(503))
    with serve_teacher({"": storm}) as teacher:
        with pytest.raises(StageError, match="07_mlgym_eval still owes"):
            evaluate(tmp_path / "rough", teacher, workers=1)
        storm.over = True
        stage = evaluate(tmp_path / "rough", teacher, workers=1)
        assert mlgym_eval.read_runs(stage) == calm
        mlgym_eval.check(stage)


def test_a_run_that_the_kit_could_not_play_counts_in_no_score(tmp_path: Path) -> None:
    finish_before_evaluation(tmp_path, "weights")
    with serve_teacher({"": act}) as teacher:
        stage = open_with("07_mlgym_eval", tmp_path, teacher, tasks=["wineCultivar", "sunspotForecast"], runs=1,
                          max_steps=4, sandbox=SANDBOX, student={"base_url": teacher.url})
        mlgym_eval.run(stage)
        whole = read_records(stage.dir / "runs.jsonl", mlgym_eval.EvalRun)
        gone = next(row for row in whole if row.model == "student" and row.task == "wineCultivar")
        work = mlgym_eval.list_work(stage, "student")
        episode = next(job for job in mlgym_eval.plan_jobs(stage) if job.id == gone.id)
        refused = mlgym_eval.refuse(stage, episode, "kit_fault", "KeyError")
        work.rewrite([*(row for row in whole if row != gone), refused])
        mlgym_eval.check(stage)
        record = mlgym_eval.finish(stage)
    assert record["refused"]["kit_fault"] == 1 and record["metrics"]["tasks_left_out"] == ["wineCultivar"]
    assert mlgym_eval.aup(stage).pool


def test_students_whose_server_is_away_are_named_when_the_evaluation_opens(tmp_path: Path) -> None:
    finish_before_evaluation(tmp_path, "weights")
    with serve_teacher({"": act}) as teacher:
        stage = open_with("07_mlgym_eval", tmp_path, teacher, student={"base_url": "http://127.0.0.1:9/v1"})
        with pytest.raises(EndpointError, match=r"server of base and student at http://127\.0\.0\.1:9/v1 cannot"):
            mlgym_eval.load_inputs(stage)
