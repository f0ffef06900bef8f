"""Stage 07: base, student and teacher on a held-out benchmark in MLGym's format, measured with AUP.

Every model gets the same tasks, prompts, limits and seeds, and its replies are executed as they are.
Source of the measure: MLGym v0.1.1, scripts/evaluation/get_ranks.py; of the setting: paper, section
on evaluation (13 tasks, 50 rounds, 64 runs a task).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel

from synthkit.core.endpoints import embedded_benchmark
from synthkit.core.errors import StageError
from synthkit.core.executor import map_items
from synthkit.core.llm import ChatClient, Reply
from synthkit.core.params import MlgymEvalParams, TeacherParams
from synthkit.core.records import append_record, read_records, write_json, write_records
from synthkit.core.runs import Stage, find_root
from synthkit.gym.agent import run_episode
from synthkit.gym.aup import Aup, Interval, bootstrap_aup_difference, compute_aup
from synthkit.gym.task import Task, list_tasks
from synthkit.gym.trajectory import Trajectory

if TYPE_CHECKING:
    import pandas as pd

MODELS = ("base", "student", "teacher")
COMPARED = ("student", "base")
Chat = Callable[..., Reply]


class Run(BaseModel):
    """One seeded run of one model on one task; scores are on the rows that the baseline's score is on."""

    model: Literal["base", "student", "teacher"]
    task: str
    run: int
    score_best: float | None
    score_last: float | None
    baseline: float
    direction: Literal["maximize", "minimize"]
    valid: bool
    exit_status: str
    steps: int
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class Episode:
    """What one run needs to start."""

    model: str
    task: Task
    run: int
    seed: int


def params_of(stage: Stage) -> MlgymEvalParams:
    assert isinstance(stage.params, MlgymEvalParams)
    return stage.params


def load_benchmark(stage: Stage) -> list[Task]:
    """The held-out tasks: the embedded benchmark, or the named tasks of an MLGym checkout."""
    params = params_of(stage)
    root = embedded_benchmark() if params.benchmark == "embedded" else find_root() / params.benchmark
    known = list_tasks(root)
    wanted = params.tasks or known
    if missing := sorted(set(wanted) - set(known)):
        raise StageError(f"07_mlgym_eval: {root} has no task {', '.join(missing)}", f"choose from {', '.join(known)}")
    if not wanted:
        raise StageError(f"07_mlgym_eval: no tasks in {root}", "give the root of an MLGym checkout as `benchmark`")
    return [Task.load(root, task_id) for task_id in wanted]


def plan_episodes(stage: Stage) -> list[Episode]:
    """Every run of every model, in a fixed order. The seed depends on task and run only: equal chances for all."""
    tasks = load_benchmark(stage)
    return [
        Episode(model, task, k, derive_seed(stage.seed, task.id, k))
        for model in MODELS for task in tasks for k in range(params_of(stage).runs)
    ]


def derive_seed(seed: int, task_id: str, run: int) -> int:
    return int.from_bytes(sha256(f"eval {seed} {task_id} {run}".encode()).digest()[:4], "big") % 1_000_000


@contextmanager
def open_model(stage: Stage, name: str) -> Iterator[Chat]:
    """The chat call of base, student or teacher."""
    params = params_of(stage)
    if name == "teacher":
        yield ChatClient(params.teacher, stage.run_dir, stage.name).chat
        return
    if params.student.base_url != "local":
        served = TeacherParams(
            model=name, base_url=params.student.base_url, temperature=params.student.temperature,
            max_output_tokens=params.student.max_new_tokens, key_env="STUDENT_API_KEY",
        )
        yield ChatClient(served, stage.run_dir, stage.name).chat
        return
    from synthkit.core.local_chat import LocalChat

    chat = LocalChat(
        find_model(stage, name), temperature=params.student.temperature, max_new_tokens=params.student.max_new_tokens
    )
    try:
        yield chat.chat
    finally:
        chat.close()


def find_model(stage: Stage, name: str) -> str:
    """The folder of base or student in stage 06, or the Hub id that the base student came from."""
    folder = stage.input("06_sft") / name
    pointer = folder / "model_id.json"
    return str(json.loads(pointer.read_text())["model"]) if pointer.exists() else str(folder)


def play(stage: Stage, episode: Episode, chat: Chat) -> Run:
    """One run: the model acts in the environment; the trajectory is saved whatever came of it."""
    params = params_of(stage)
    trajectory = run_episode(
        episode.task, lambda messages: chat(messages, sample=episode.run, seed=episode.seed), params.sandbox,
        max_steps=params.max_steps, name=episode.model, history=params.history, seed=episode.seed,
        reply_format=params.reply_format, time_limit_s=params.episode_s, shadow=True,
    )
    trajectory.save(stage.dir / "trajectories" / episode.model / episode.task.id / str(episode.run))
    return summarise_run(episode, trajectory)


def summarise_run(episode: Episode, trajectory: Trajectory) -> Run:
    """Best and last score of a run, both on the rows of the baseline's score, never on the public part.

    Best is over everything that was validated or handed in, scored where the agent could not see it.
    """
    task, metric = episode.task, str(episode.task.metric)
    part = "all" if task.meta.score_on == "all" else "private"
    final = [s for s, p in zip(trajectory.scores, trajectory.parts, strict=True) if p == part]
    values = [s[metric] for s in trajectory.shadow_scores + final if np.isfinite(s.get(metric, np.nan))]
    last = final[-1].get(metric) if final else None
    best = (max if task.direction == "maximize" else min)(values) if values else None
    return Run(
        model=episode.model, task=task.id, run=episode.run, score_best=best, score_last=last,
        baseline=trajectory.baseline[metric], direction=task.direction, valid=trajectory.final_score is not None,
        exit_status=trajectory.exit_status, steps=len(trajectory.steps),
        tokens_in=trajectory.tokens_in, tokens_out=trajectory.tokens_out,
    )


def run(stage: Stage, progress: Callable[[str], None] | None = None) -> list[Run]:
    """All runs that are not on record yet; each is recorded as it ends. Returns all, in the order of the plan."""
    path, plan = stage.dir / "runs.jsonl", plan_episodes(stage)
    done = {(r.model, r.task, r.run): r for r in read_records(path, Run)}
    for name in MODELS:
        todo = [e for e in plan if e.model == name and (e.model, e.task.id, e.run) not in done]
        if not todo:
            continue
        with open_model(stage, name) as chat:
            for episode, result in map_items(lambda e, c=chat: play(stage, e, c), todo, params_of(stage).workers):
                if isinstance(result, Exception):
                    raise result
                append_record(path, result)
                done[name, episode.task.id, episode.run] = result
                if progress:
                    progress(f"{name} {len(done)}/{len(plan)} {episode.task.id}: {result.exit_status}")
    ordered = [done[e.model, e.task.id, e.run] for e in plan]
    write_records(path, ordered)
    return ordered


def scores(stage: Stage) -> "pd.DataFrame":
    """One row a run: model, task, run, score_best, score_last, baseline, direction, valid, exit_status."""
    import pandas as pd

    table = pd.DataFrame([r.model_dump() for r in read_records(stage.dir / "runs.jsonl", Run)])
    return table.astype({"score_best": float, "score_last": float})


def aup(stage: Stage) -> Aup:
    """AUP of the pool base, student, teacher and the tasks' baseline. It has a meaning only in this pool."""
    return compute_aup(scores(stage))


def difference(stage: Stage) -> Interval:
    """AUP of the student minus AUP of the base, with a 95 % bootstrap interval over tasks and runs."""
    return bootstrap_aup_difference(scores(stage), *COMPARED, kind="last", seed=stage.seed)


def check(stage: Stage) -> None:
    """Every planned run is there once, and no invalid run carries a final score."""
    table, plan = scores(stage), plan_episodes(stage)
    if len(table) != len(plan) or table.duplicated(["model", "task", "run"]).any():
        raise StageError(f"07_mlgym_eval: {len(table)} runs on record, {len(plan)} planned", "run the stage again")
    if (table["valid"] & table["score_last"].isna()).any():
        raise StageError("07_mlgym_eval: a valid run has no score", "look at runs.jsonl and report this")


def finish(stage: Stage) -> dict:
    """Write scores.csv, aup.json and the completion record. Invalid runs are counted as lost, by exit status."""
    table, measured, interval = scores(stage), aup(stage), difference(stage)
    table.to_csv(stage.dir / "scores.csv", index=False)
    write_json(stage.dir / "aup.json", to_plain(asdict(measured)) | {
        "difference": {"models": list(COMPARED), **asdict(interval)},
    })
    lost = table.loc[~table["valid"], "exit_status"].str.split(" ").str[0].value_counts().sort_index()
    metrics = {f"valid_{name}": float(rows["valid"].mean()) for name, rows in table.groupby("model", sort=False)}
    return stage.finish(
        requested=len(table), kept=int(table["valid"].sum()), lost={str(k): int(v) for k, v in lost.items()},
        metrics=metrics | {"aup_difference": interval.value},
    )


def to_plain(value: object) -> object:
    """numpy arrays as lists, all the way down, for JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    return value


def trajectory_folder(stage: Stage, model: str, task: str, run: int) -> Path:
    """Where a run's trajectory lies, for reading it in the notebook."""
    return stage.dir / "trajectories" / model / task / str(run)
