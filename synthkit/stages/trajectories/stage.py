"""Stage 05: the teacher solves the verified tasks in the environment; what it did well becomes training rows.

Source: paper, stage 5 (256 rollouts aimed at per task; kept when there is a successful submission and at most 48K
tokens). The cap per task is ours. A bad rollout is a record, never a crash.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthkit.core.errors import StageError
from synthkit.core.files import read_records, write_records
from synthkit.core.llm import ChatClient
from synthkit.core.params import TrajectoriesParams
from synthkit.core.progress import Progress, show_progress
from synthkit.core.stage import Stage, params_as, under_lock
from synthkit.core.worklist import Worklist, check_owed, count_owed, read_owed
from synthkit.gym.agent.tools import list_tools
from synthkit.gym.environment import Environment
from synthkit.gym.episode import Agent, Save, run_episode
from synthkit.gym.task import Task
from synthkit.gym.trajectory import Trajectory
from synthkit.records import Rollout, SftExample, Verified
from synthkit.stages.common.episodes import play_or_go_on
from synthkit.stages.common.funnel import Funnel, count_reasons
from synthkit.stages.common.seeds import derive_seed
from synthkit.stages.trajectories.filter import judge_rollouts
from synthkit.stages.trajectories.rollouts import RolloutJob, build_example, choose_counter, summarise

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Playing:
    """What every rollout needs; each task is loaded once."""

    stage: Stage
    client: ChatClient
    tasks: dict[str, Task] = field(default_factory=dict)

    def task(self, task_id: str) -> Task:
        """A task, loaded at its first rollout."""
        if task_id not in self.tasks:
            self.tasks[task_id] = load_task(self.stage, task_id)
        return self.tasks[task_id]


def params_of(stage: Stage) -> TrajectoriesParams:
    """The parameters of this stage."""
    return params_as(stage, TrajectoriesParams)


def load_inputs(stage: Stage) -> list[Verified]:
    """The verified tasks of stage 04."""
    return read_records(stage.input("04_self_debug") / "verified.jsonl", Verified)


def load_task(stage: Stage, task_id: str) -> Task:
    """A verified task from stage 04's folder."""
    return Task.load(stage.input("04_self_debug") / "tasks", task_id)


def show_prompt(stage: Stage, row: Verified) -> Messages:
    """The system prompt and the first message of a rollout, but for its last lines on the shell's state."""
    params = params_of(stage)
    environment = Environment(load_task(stage, row.task_id), params.sandbox, max_steps=params.max_steps,
                              training_timeout_s=params.training_timeout_s)
    environment.baseline_public = {row.metric: row.scores.baseline_public}
    agent = Agent(lambda messages: "", reply_format=params.reply_format)
    return [*agent.messages, {"role": "user", "content": environment.describe_task()}]


@under_lock
def preview(stage: Stage, n: int = 1) -> list[dict[str, Any]]:
    """The first `n` rollouts as the content of their .traj files, nothing recorded."""
    with open_playing(stage) as context:
        return [play(context, job).to_mlgym() for job in plan_jobs(stage)[:n]]


@contextmanager
def open_playing(stage: Stage) -> Iterator[Playing]:
    """The teacher and the tasks, open while rollouts are played. Raises EndpointError when no tokenizer can count."""
    choose_counter(params_of(stage).tokenizer)
    yield Playing(stage, stage.open_chat(params_of(stage).teacher))


def plan_jobs(stage: Stage) -> list[RolloutJob]:
    """Every rollout of every task, each with its own seed, in a fixed order."""
    return [RolloutJob(row.task_id, k, derive_seed(stage.seed, "rollout", row.task_id, k))
            for row in load_inputs(stage) for k in range(params_of(stage).per_task)]


@under_lock
def run(stage: Stage, progress: Progress | None = None) -> list[Rollout]:
    """Play every rollout that has no record yet, then filter them all. Resumable after any step."""
    jobs, work = plan_jobs(stage), list_work(stage)
    with show_progress(progress, len(jobs)) as advance:
        found = work.work_off(jobs, params_of(stage).workers, advance).values()
    rows = judge_rollouts([row for row in found if isinstance(row, Rollout)], params_of(stage))
    work.rewrite(rows)
    write_records(stage.dir / "refused.jsonl", [row for row in rows if not row.kept])
    examples = [build_example(row, folder_of(stage, row.task_id, row.rollout)) for row in rows if row.kept]
    write_records(stage.dir / "sft.jsonl", examples)
    check_owed(stage, len(jobs))
    return rows


def list_work(stage: Stage) -> Worklist[RolloutJob, Playing]:
    """The worklist of rollouts."""
    return Worklist(stage, {Rollout: "rollouts.jsonl"}, lambda job: job.id, lambda row: row.id, refuse, open_playing,
                    play_and_save, list_files)


def list_files(stage: Stage, job: RolloutJob) -> list[Path]:
    """What a rollout is made from: its task, and as far as it had come."""
    root = stage.input("04_self_debug") / "tasks"
    return [*sorted(root.glob(f"configs/*/{job.task_id}.yaml")), root / "data" / job.task_id,
            folder_of(stage, job.task_id, job.rollout)]


def refuse(job: RolloutJob, reason: str, detail: str) -> Rollout:
    """A rollout that could not be played at all; `reason` goes before the filter's own."""
    return Rollout(
        id=job.id, task_id=job.task_id, rollout=job.rollout, seed=job.seed, exit_status=f"{reason}: {detail}", steps=0,
        n_tokens=0, score=None, validated=None, baseline=None, better=False, tokens_in=0, tokens_out=0, usd=0.0,
        conversation_hash="", fault=reason)


def play(context: Playing, job: RolloutJob, saved: Trajectory | None = None, save: Save | None = None) -> Trajectory:
    """One rollout: the teacher acts in the environment, from as far as `saved` had come."""
    params, client = params_of(context.stage), context.client
    tools = list_tools() if params.reply_format == "tool_call" else None
    return run_episode(
        context.task(job.task_id),
        lambda messages: client.chat(messages, sample=job.rollout, seed=job.seed, tools=tools),
        params.sandbox, max_steps=params.max_steps, training_timeout_s=params.training_timeout_s,
        name=params.teacher.model, seed=job.seed, reply_format=params.reply_format, time_limit_s=params.episode_s,
        cost_limit_usd=params.episode_usd, saved=saved, save=save,
    )


def play_and_save(context: Playing, job: RolloutJob) -> Rollout:
    """One episode, saved after each step and as a whole before it is recorded."""
    stage = context.stage
    trajectory = play_or_go_on(folder_of(stage, job.task_id, job.rollout), params_of(stage).teacher.model, job.seed,
                               lambda saved, save: play(context, job, saved, save))
    return summarise(context.task(job.task_id), job, trajectory, choose_counter(params_of(stage).tokenizer))


def folder_of(stage: Stage, task_id: str, rollout: int) -> Path:
    """Where a rollout's .traj and results.json lie."""
    return stage.dir / "trajectories" / task_id / f"{rollout:03d}"


def load_rollouts(stage: Stage) -> list[dict[str, Any]]:
    """Every rollout as a plain row, for tables and plots."""
    return read_records(stage.dir / "rollouts.jsonl")


def read_rollouts(stage: Stage) -> list[Rollout]:
    """Every rollout on record."""
    return read_records(stage.dir / "rollouts.jsonl", Rollout)


def funnel(stage: Stage) -> Funnel:
    """Rollouts planned, kept, refused by the filter, and owed."""
    rows = read_rollouts(stage)
    refused = count_reasons(row for row in rows if row.reason)
    return Funnel(len(plan_jobs(stage)), sum(row.kept for row in rows), refused, count_owed(stage))


def check(stage: Stage) -> None:
    """Every planned rollout has one record, and every training row ends with the teacher's own turn."""
    owed, planned = read_owed(stage), [job.id for job in plan_jobs(stage)]
    rows = read_rollouts(stage)
    if [row.id for row in rows] != [name for name in planned if name not in owed]:
        raise StageError(f"05_trajectories: {len(rows)} rollouts on record, {len(planned)} planned",
                         "run the stage again")
    kept = read_records(stage.dir / "sft.jsonl", SftExample)
    if not kept:
        raise StageError(f"05_trajectories: the filter kept no rollout; refused: {funnel(stage).refused}",
                         "read some trajectories; raise max_steps or max_tokens")
    for row in kept:
        if [message.role for message in row.messages[:2]] != ["system", "user"] \
                or row.messages[-1].role != "assistant":
            raise StageError(f"05_trajectories: {row.id} is not a conversation to learn from",
                             "delete its folder and its line in rollouts.jsonl, then run the stage again")


@under_lock
def finish(stage: Stage) -> dict[str, Any]:
    """Write the completion record: how many kept rollouts beat the baseline, tasks covered, tokens to train on."""
    kept = [row for row in read_rollouts(stage) if row.kept]
    metrics = {"better_than_baseline": sum(row.better for row in kept), "tasks": len({row.task_id for row in kept}),
               "tokens": sum(row.n_tokens for row in kept)}
    return funnel(stage).finish(stage, metrics)
