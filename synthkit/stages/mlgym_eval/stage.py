"""Stage 07: base, student and teacher on a held-out benchmark in MLGym's format, measured with AUP.

Every model gets the same tasks, prompts, limits and seeds, and its replies are executed as they are.
Source of the measure: MLGym v0.1.1, scripts/evaluation/get_ranks.py; of the setting: paper, section
on evaluation (13 tasks, 50 rounds, 64 runs a task).
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from synthkit.core.endpoints import check_server
from synthkit.core.errors import StageError
from synthkit.core.files import read_records, write_json, write_text
from synthkit.core.progress import Progress, show_progress
from synthkit.core.stage import Stage, under_lock
from synthkit.core.worklist import Worklist, check_owed, count_owed, read_owed
from synthkit.gym.environment import Environment
from synthkit.gym.episode import Agent, Save, run_episode
from synthkit.gym.scoring.baseline import find_baseline
from synthkit.gym.task import Task, list_tasks
from synthkit.gym.trajectory import Trajectory
from synthkit.records import EvalRun, ModelName, RefusedRun
from synthkit.stages.common.benchmark import find_benchmark
from synthkit.stages.common.episodes import play_or_go_on
from synthkit.stages.common.funnel import Funnel, count_reasons
from synthkit.stages.common.seeds import derive_seed
from synthkit.stages.mlgym_eval.players import Chat, open_model, params_of
from synthkit.stages.mlgym_eval.results import COMPARED, aup, comparable, difference, read_runs, scores, to_plain
from synthkit.stages.mlgym_eval.runs import EvalJob, summarise_run

MODELS: tuple[ModelName, ...] = get_args(ModelName)


@dataclass(frozen=True)
class Playing:
    """What every run of one model needs."""

    stage: Stage
    chat: Chat
    tasks: dict[str, Task]


def load_benchmark(stage: Stage) -> list[Task]:
    """The held-out tasks: the embedded benchmark, or the named tasks of an MLGym checkout."""
    params = params_of(stage)
    root = find_benchmark(params.benchmark)
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
    jobs = [job for job in plan_jobs(stage) if job.model == "student"]
    with open_playing(stage, "student") as context:
        return [play(context, job).to_mlgym() for job in jobs[:n]]


def plan_jobs(stage: Stage) -> list[EvalJob]:
    """Every run of every model, in a fixed order. The seed depends on task and run only: equal chances for all."""
    names = [task.id for task in load_benchmark(stage)]
    return [
        EvalJob(model, name, k, derive_seed(stage.seed, "eval", name, k))
        for model in MODELS for name in names for k in range(params_of(stage).runs)
    ]


@contextmanager
def open_playing(stage: Stage, model: ModelName) -> Iterator[Playing]:
    """One model and the tasks, open while its runs are played."""
    with open_model(stage, model) as chat:
        yield Playing(stage, chat, {task.id: task for task in load_benchmark(stage)})


def play(context: Playing, job: EvalJob, saved: Trajectory | None = None, save: Save | None = None) -> Trajectory:
    """One run: the model acts in the environment."""
    params = params_of(context.stage)
    return run_episode(
        context.tasks[job.task_id],
        lambda messages: context.chat(messages, sample=job.run, seed=job.seed), params.sandbox,
        max_steps=params.max_steps, name=job.model, history=params.history, seed=job.seed,
        reply_format=params.reply_format, time_limit_s=params.episode_s, shadow=True, saved=saved, save=save,
    )


def play_and_save(context: Playing, job: EvalJob) -> EvalRun:
    """One run, saved after each step and as a whole before it is recorded, whatever came of it."""
    folder = trajectory_folder(context.stage, job.model, job.task_id, job.run)
    trajectory = play_or_go_on(folder, job.model, job.seed,
                               lambda saved, save: play(context, job, saved, save))
    return summarise_run(context.tasks[job.task_id], job, trajectory)


@under_lock
def run(stage: Stage, progress: Progress | None = None) -> list[EvalRun]:
    """All runs that are not on record yet; each is recorded as it ends. Returns all, in the order of the plan."""
    plan = plan_jobs(stage)
    rows: list[BaseModel] = []
    with show_progress(progress, len(plan)) as advance:
        for model in MODELS:
            jobs = [job for job in plan if job.model == model]
            rows += list_work(stage, model).work_off(jobs, params_of(stage).workers, advance).values()
    list_work(stage, MODELS[0]).rewrite(rows)
    check_owed(stage, len(plan))
    return [row for row in rows if isinstance(row, EvalRun)]


def list_work(stage: Stage, model: ModelName) -> Worklist[EvalJob, Playing]:
    """The worklist of one model's runs."""
    return Worklist(stage, {EvalRun: "runs.jsonl", RefusedRun: "refused.jsonl"}, lambda job: job.id,
                    lambda row: row.id, partial(refuse, stage), lambda stage: open_playing(stage, model),
                    play_and_save, list_files)


def list_files(stage: Stage, job: EvalJob) -> list[Path]:
    """What a run is made from, beside the benchmark: whose weights play, and as far as it had come."""
    return [stage.input("06_sft") / "stage.json",
            trajectory_folder(stage, job.model, job.task_id, job.run)]


def refuse(stage: Stage, job: EvalJob, reason: str, detail: str) -> EvalRun | RefusedRun:
    """A run that could not be played. A sandbox that the model's actions kill every time is the model's own doing."""
    if reason == "sandbox_died":
        task = next(task for task in load_benchmark(stage) if task.id == job.task_id)
        baseline = find_baseline(task, params_of(stage).sandbox)[1][str(task.metric)]
        return EvalRun(model=job.model, task=job.task_id, run=job.run, score_best=None, score_last=None,
                       baseline=baseline, direction=task.direction, valid=False, exit_status="early_exit", steps=0,
                       tokens_in=0, tokens_out=0)
    return RefusedRun(id=job.id, model=job.model, task=job.task_id, run=job.run, reason=reason,
                      detail=detail)


def funnel(stage: Stage) -> Funnel:
    """Runs planned, valid, refused by exit status or reason, and owed. A run without a score counts as refused."""
    runs = read_runs(stage)
    invalid = Counter(run.exit_status.split(" ")[0] for run in runs if not run.valid)
    refused = dict(sorted(invalid.items())) | count_reasons(read_refused(stage))
    return Funnel(len(plan_jobs(stage)), sum(run.valid for run in runs), refused, count_owed(stage))


def read_refused(stage: Stage) -> list[RefusedRun]:
    """The runs that could not be played, and why."""
    return read_records(stage.dir / "refused.jsonl", RefusedRun)


def check(stage: Stage) -> None:
    """Every planned run has one outcome, and every valid one its score."""
    runs, refused, owed = read_runs(stage), read_refused(stage), read_owed(stage)
    found = [*(run.id for run in runs), *(run.id for run in refused), *owed]
    if sorted(found) != sorted(job.id for job in plan_jobs(stage)):
        raise StageError(f"07_mlgym_eval: {len(found)} runs on record, {len(plan_jobs(stage))} planned",
                         "run the stage again")
    if any(run.valid and run.score_last is None for run in runs):
        raise StageError("07_mlgym_eval: a valid run has no score", "look at runs.jsonl and report this")


@under_lock
def finish(stage: Stage) -> dict[str, Any]:
    """Write scores.csv, aup.json and the completion record. Invalid runs count as refused, by exit status.

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
    metrics: dict[str, Any] = {f"valid_{name}": float(rows["valid"].mean())
                               for name, rows in table.groupby("model", sort=False)}
    metrics |= {"aup_difference": interval.value,
                "tasks_left_out": sorted(set(table["task"]) - set(comparable(table)["task"]))}
    return funnel(stage).finish(stage, metrics)


def trajectory_folder(stage: Stage, model: str, task: str, run: int) -> Path:
    """Where a run's trajectory lies, for reading it in the notebook."""
    return stage.dir / "trajectories" / model / task / str(run)
