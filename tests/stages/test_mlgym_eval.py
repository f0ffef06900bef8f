"""Stage 07: what counts as a run's score, equal chances, and a whole evaluation by a scripted model."""

from pathlib import Path

import pytest
from kits.stage_kit import finish_empty

from synthkit.core.errors import StageError
from synthkit.core.files import read_records
from synthkit.core.llm import Reply
from synthkit.core.opening import open_stage
from synthkit.core.params import STAGES
from synthkit.core.stage import Stage
from synthkit.gym.trajectory import Trajectory
from synthkit.offline.policy import next_action
from synthkit.stages.mlgym_eval import stage as mlgym_eval


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params").mkdir()
    monkeypatch.chdir(tmp_path)
    finish_empty(tmp_path / "r", *list(STAGES)[:6])
    values = {"run_dir": "r", "tasks": ["wineCultivar", "sunspotForecast"], "runs": 2, "max_steps": 14}
    return open_stage("07_mlgym_eval", values)


def test_base_student_and_teacher_get_the_same_seeds(stage: Stage):
    plan = mlgym_eval.plan_jobs(stage)
    seeds = {model: [e.seed for e in plan if e.model == model] for model in mlgym_eval.MODELS}
    assert seeds["base"] == seeds["student"] == seeds["teacher"] and len(set(seeds["base"])) == 4


def test_an_unknown_task_is_named_with_those_that_exist(stage: Stage):
    stage.params = stage.params.model_copy(update={"tasks": ["titanik"]})
    with pytest.raises(StageError, match="no task titanik"):
        mlgym_eval.load_benchmark(stage)


def test_public_scores_never_count_as_a_result(stage: Stage):
    episode = mlgym_eval.plan_jobs(stage)[0]
    task = mlgym_eval.load_benchmark(stage)[0]
    metric = str(task.metric)
    trajectory = Trajectory(
        task.id, "student", exit_status="submitted", baseline={metric: 0.5},
        scores=[{metric: 0.99}, {metric: 0.7}], parts=["public", "private"], shadow_scores=[{metric: 0.8}],
    )
    result = mlgym_eval.summarise_run(task, episode, trajectory)
    assert (result.score_best, result.score_last, result.valid) == (0.8, 0.7, True)
    unfinished = Trajectory(task.id, "student", exit_status="max_steps", baseline={metric: 0.5},
                            scores=[{metric: 0.99}], parts=["public"])
    assert mlgym_eval.summarise_run(task, episode, unfinished).score_last is None


def test_a_whole_evaluation_resumes_and_tells_good_from_bad(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    calls = {"base": 0, "student": 0, "teacher": 0}

    def fake_model(_: Stage, name: str) -> object:
        def chat(messages: list[dict], *, sample: int, seed: int) -> Reply:
            calls[name] += 1
            text = "mumble" if name == "base" else next_action(messages, 23 + sample)
            return Reply(text, 1, 1, 0.0, cached=False)

        from contextlib import nullcontext
        return nullcontext(chat)

    monkeypatch.setattr(mlgym_eval, "open_model", fake_model)
    mlgym_eval.run(stage)
    mlgym_eval.check(stage)
    table = mlgym_eval.scores(stage)
    assert not table[table["model"] == "base"]["valid"].any()
    assert table[table["model"] == "student"]["valid"].all()
    assert mlgym_eval.aup(stage).aup["last"]["student"] > mlgym_eval.aup(stage).aup["last"]["base"]
    record = mlgym_eval.finish(stage)
    assert (record["requested"], record["kept"]) == (12, 8) and sum(record["refused"].values()) == 4
    before, paid = read_records(stage.dir / "runs.jsonl"), dict(calls)
    mlgym_eval.run(stage)
    assert read_records(stage.dir / "runs.jsonl") == before and calls == paid
    assert mlgym_eval.trajectory_folder(stage, "student", "wineCultivar", 0).joinpath("results.json").exists()
