"""Stage 07: base, student and teacher on a held-out benchmark in MLGym's format, measured with AUP.

Every model gets the same tasks, prompts, limits and seeds, and its replies are executed as they are.
Source of the measure: MLGym v0.1.1, scripts/evaluation/get_ranks.py; of the setting: paper, section
on evaluation (13 tasks, 50 rounds, 64 runs a task).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel

from synthkit.core.chain import load_stage_record
from synthkit.core.endpoints import check_server, embedded_benchmark
from synthkit.core.errors import StageError
from synthkit.core.files import read_records, write_json, write_text
from synthkit.core.llm import Reply
from synthkit.core.params import MlgymEvalParams, TeacherParams
from synthkit.core.paths import find_root, locate
from synthkit.core.progress import Progress, show_progress
from synthkit.core.stage import Stage, under_lock
from synthkit.core.worklist import Worklist, check_owed, count_owed, read_owed
from synthkit.gym.aup import Aup, Interval, bootstrap_aup_difference, compute_aup
from synthkit.gym.environment import Environment
from synthkit.gym.episode import Agent, Save, run_episode
from synthkit.gym.scoring.baseline import find_baseline
from synthkit.gym.task import Task, list_tasks
from synthkit.gym.trajectory import Trajectory
from synthkit.stages.common.episodes import play_or_go_on
from synthkit.stages.common.refusals import count_reasons

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

    @property
    def id(self) -> str:
        return f"{self.model}/{self.task}/{self.run:03d}"


class Refused(BaseModel):
    """A run that could not be played at all, by no fault of the model; it counts in no score."""

    id: str
    model: str
    task: str
    run: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Episode:
    """One run that is to be played."""

    model: str
    task_id: str
    run: int
    seed: int

    @property
    def id(self) -> str:
        return f"{self.model}/{self.task_id}/{self.run:03d}"


@dataclass(frozen=True)
class Playing:
    """What every run of one model needs."""

    stage: Stage
    chat: Chat
    tasks: dict[str, Task]


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


def load_inputs(stage: Stage) -> list[Task]:
    """The held-out tasks that every model plays. Raises EndpointError when the students' server does not answer."""
    url = params_of(stage).student.base_url
    if url != "local":
        check_server("the server of base and student", url)
    return load_benchmark(stage)


def show_prompt(stage: Stage, task: Task) -> list[dict[str, str]]:
    """The system prompt and the first message of a run, but for its last lines on the shell's state."""
    params = params_of(stage)
    with Environment(task, params.sandbox, max_steps=params.max_steps) as environment:
        told, _ = environment.reset()
    agent = Agent(lambda messages: "", reply_format=params.reply_format)
    return [*agent.messages, {"role": "user", "content": told}]


@under_lock
def preview(stage: Stage, n: int = 1) -> list[dict[str, Any]]:
    """The student's first `n` runs as the content of their .traj files, nothing recorded."""
    episodes = [episode for episode in plan_episodes(stage) if episode.model == "student"]
    with open_playing(stage, "student") as playing:
        return [play(playing, episode).to_mlgym() for episode in episodes[:n]]


def plan_episodes(stage: Stage) -> list[Episode]:
    """Every run of every model, in a fixed order. The seed depends on task and run only: equal chances for all."""
    names = [task.id for task in load_benchmark(stage)]
    return [
        Episode(model, name, k, derive_seed(stage.seed, name, k))
        for model in MODELS for name in names for k in range(params_of(stage).runs)
    ]


def derive_seed(seed: int, task_id: str, run: int) -> int:
    return int.from_bytes(sha256(f"eval {seed} {task_id} {run}".encode()).digest()[:4], "big") % 1_000_000


@contextmanager
def open_model(stage: Stage, name: str) -> Iterator[Chat]:
    """The chat call of base, student or teacher."""
    params = params_of(stage)
    if name == "teacher":
        yield stage.open_chat(params.teacher).chat
        return
    if params.student.base_url != "local":
        served = TeacherParams(
            model=name, base_url=params.student.base_url, temperature=params.student.temperature,
            max_output_tokens=params.student.max_new_tokens, key_env="STUDENT_API_KEY",
            usd_per_mtok_in=params.student.usd_per_mtok_in, usd_per_mtok_out=params.student.usd_per_mtok_out,
            budget_usd=params.teacher.budget_usd,
        )
        # A student that was trained anew has the old one's name, and must not get its replies.
        weights = (load_stage_record(stage.run_dir, "06_sft") or {}).get("results", "")
        yield stage.open_chat(served, weights).chat
        return
    from synthkit.stages.common.local_student import LocalChat

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
    return locate(str(json.loads(pointer.read_text())["model"])) if pointer.exists() else str(folder)


@contextmanager
def open_playing(stage: Stage, model: str) -> Iterator[Playing]:
    with open_model(stage, model) as chat:
        yield Playing(stage, chat, {task.id: task for task in load_benchmark(stage)})


def play(playing: Playing, episode: Episode, saved: Trajectory | None = None, save: Save | None = None) -> Trajectory:
    """One run: the model acts in the environment."""
    params = params_of(playing.stage)
    return run_episode(
        playing.tasks[episode.task_id],
        lambda messages: playing.chat(messages, sample=episode.run, seed=episode.seed), params.sandbox,
        max_steps=params.max_steps, name=episode.model, history=params.history, seed=episode.seed,
        reply_format=params.reply_format, time_limit_s=params.episode_s, shadow=True, saved=saved, save=save,
    )


def play_and_save(playing: Playing, episode: Episode) -> Run:
    """One run, saved after each step and as a whole before it is recorded, whatever came of it."""
    folder = trajectory_folder(playing.stage, episode.model, episode.task_id, episode.run)
    trajectory = play_or_go_on(folder, episode.model, episode.seed,
                               lambda saved, save: play(playing, episode, saved, save))
    return summarise_run(playing.tasks[episode.task_id], episode, trajectory)


def summarise_run(task: Task, episode: Episode, trajectory: Trajectory) -> Run:
    """Best and last score of a run, both on the rows of the baseline's score, never on the public part.

    Best is over everything that was validated or handed in, scored where the agent could not see it.
    """
    metric = str(task.metric)
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


@under_lock
def run(stage: Stage, progress: Progress | None = None) -> list[Run]:
    """All runs that are not on record yet; each is recorded as it ends. Returns all, in the order of the plan."""
    plan = plan_episodes(stage)
    rows: list[BaseModel] = []
    with show_progress(progress, len(plan)) as advance:
        for model in MODELS:
            episodes = [episode for episode in plan if episode.model == model]
            rows += list_work(stage, model).work_off(episodes, params_of(stage).workers, advance).values()
    list_work(stage, MODELS[0]).rewrite(rows)
    check_owed(stage, len(plan))
    return [row for row in rows if isinstance(row, Run)]


def list_work(stage: Stage, model: str) -> Worklist[Episode, Playing]:
    return Worklist(stage, {Run: "runs.jsonl", Refused: "refused.jsonl"}, lambda episode: episode.id,
                    lambda row: row.id, partial(refuse, stage), lambda stage: open_playing(stage, model),
                    play_and_save, list_files)


def list_files(stage: Stage, episode: Episode) -> list[Path]:
    """What a run is made from, beside the benchmark: whose weights play, and as far as it had come."""
    return [stage.input("06_sft") / "stage.json",
            trajectory_folder(stage, episode.model, episode.task_id, episode.run)]


def refuse(stage: Stage, episode: Episode, reason: str, detail: str) -> Run | Refused:
    """A run that could not be played. A sandbox that the model's actions kill every time is the model's own doing."""
    if reason == "sandbox_died":
        task = next(task for task in load_benchmark(stage) if task.id == episode.task_id)
        baseline = find_baseline(task, params_of(stage).sandbox)[1][str(task.metric)]
        return Run(model=episode.model, task=episode.task_id, run=episode.run, score_best=None, score_last=None,
                   baseline=baseline, direction=task.direction, valid=False, exit_status="early_exit", steps=0,
                   tokens_in=0, tokens_out=0)
    return Refused(id=episode.id, model=episode.model, task=episode.task_id, run=episode.run, reason=reason,
                   detail=detail)


def scores(stage: Stage) -> "pd.DataFrame":
    """One row a run: model, task, run, score_best, score_last, baseline, direction, valid, exit_status."""
    import pandas as pd

    table = pd.DataFrame([run.model_dump() for run in read_runs(stage)], columns=list(Run.model_fields))
    return table.astype({"score_best": float, "score_last": float})


def comparable(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of the tasks that every model has played: a run that the kit could not play is no model's failure."""
    played = table.groupby("task")["model"].nunique()
    return table[table["task"].isin(played[played == table["model"].nunique()].index)]


def aup(stage: Stage) -> Aup:
    """AUP of the pool base, student, teacher and the tasks' baseline. It has a meaning only in this pool."""
    return compute_aup(comparable(scores(stage)))


def difference(stage: Stage) -> Interval:
    """AUP of the student minus AUP of the base, with a 95 % bootstrap interval over tasks and runs."""
    return bootstrap_aup_difference(comparable(scores(stage)), *COMPARED, kind="last", seed=stage.seed)


def funnel(stage: Stage) -> tuple[int, int, dict[str, int], dict[str, int]]:
    """(runs planned, valid, lost by exit status or reason, owed by reason): the last three add up to the first."""
    runs, refused, owed = read_runs(stage), read_refused(stage), count_owed(stage)
    lost: dict[str, int] = {}
    for run in runs:
        if not run.valid:
            status = run.exit_status.split(" ")[0]
            lost[status] = lost.get(status, 0) + 1
    lost = dict(sorted(lost.items())) | count_reasons(refused)
    return len(plan_episodes(stage)), sum(run.valid for run in runs), lost, owed


def read_runs(stage: Stage) -> list[Run]:
    return read_records(stage.dir / "runs.jsonl", Run)


def read_refused(stage: Stage) -> list[Refused]:
    return read_records(stage.dir / "refused.jsonl", Refused)


def check(stage: Stage) -> None:
    """Every planned run has one outcome, and every valid one its score."""
    runs, refused, owed = read_runs(stage), read_refused(stage), read_owed(stage)
    found = [row.id for row in [*runs, *refused]] + list(owed)
    if sorted(found) != sorted(episode.id for episode in plan_episodes(stage)):
        raise StageError(f"07_mlgym_eval: {len(found)} runs on record, {len(plan_episodes(stage))} planned",
                         "run the stage again")
    if any(run.valid and run.score_last is None for run in runs):
        raise StageError("07_mlgym_eval: a valid run has no score", "look at runs.jsonl and report this")


@under_lock
def finish(stage: Stage) -> dict[str, Any]:
    """Write scores.csv, aup.json and the completion record. Invalid runs are counted as lost, by exit status.

    Raises StageError while runs are missing, and when no task was played by all models.
    """
    check(stage)
    table = scores(stage)
    if comparable(table).empty:
        raise StageError("07_mlgym_eval: no task was played by every model", "look at refused.jsonl")
    measured, interval = aup(stage), difference(stage)
    write_text(stage.dir / "scores.csv", table.to_csv(index=False))
    write_json(stage.dir / "aup.json", to_plain(asdict(measured)) | {
        "difference": {"models": list(COMPARED), **asdict(interval)},
    })
    requested, kept, lost, owed = funnel(stage)
    metrics: dict[str, Any] = {f"valid_{name}": float(rows["valid"].mean())
                               for name, rows in table.groupby("model", sort=False)}
    metrics |= {"aup_difference": interval.value,
                "tasks_left_out": sorted(set(table["task"]) - set(comparable(table)["task"]))}
    return stage.finish(requested, kept, lost, metrics, owed=owed)


def to_plain(value: Any) -> Any:
    """numpy arrays as lists, all the way down, for JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    return value


def trajectory_folder(stage: Stage, model: str, task: str, run: int) -> Path:
    """Where a run's trajectory lies, for reading it in the notebook."""
    return stage.dir / "trajectories" / model / task / str(run)
