"""A rollout from its plan to its row, and from its row to an example to train on."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from synthkit.core.errors import EndpointError
from synthkit.core.paths import locate
from synthkit.core.prompts import hash_prompts
from synthkit.gym.episode import AGENT_PROMPTS
from synthkit.gym.task import Task
from synthkit.gym.trajectory import Trajectory
from synthkit.records import Message, Rollout, SftExample


@dataclass(frozen=True)
class RolloutJob:
    """One rollout that is to be played; `seed` is its own."""

    task_id: str
    rollout: int
    seed: int

    @property
    def id(self) -> str:
        """Task and number: the key of the rollout."""
        return f"{self.task_id}/{self.rollout:03d}"


def summarise(task: Task, job: RolloutJob, trajectory: Trajectory,
              count_tokens: Callable[[Trajectory], int]) -> Rollout:
    """An episode as a row; whether it is kept is decided when all are there."""
    metric = str(task.metric)
    baseline = trajectory.baseline.get(metric)
    score = (trajectory.final_score or {}).get(metric)
    public = [scores.get(metric) for scores, part in zip(trajectory.scores, trajectory.parts, strict=True)
              if part == "public"]
    sign = 1 if task.direction == "maximize" else -1
    return Rollout(
        id=job.id, task_id=job.task_id, rollout=job.rollout, seed=job.seed, exit_status=trajectory.exit_status,
        steps=len(trajectory.steps), n_tokens=count_tokens(trajectory), score=score,
        validated=public[-1] if public else None, baseline=baseline,
        better=score is not None and baseline is not None and sign * (score - baseline) > 0,
        tokens_in=trajectory.tokens_in, tokens_out=trajectory.tokens_out, usd=trajectory.usd,
        conversation_hash=hashlib.sha256(json.dumps(trajectory.messages).encode()).hexdigest()[:16],
    )


@cache
def choose_counter(tokenizer: str) -> Callable[[Trajectory], int]:
    """How the tokens of a trajectory are counted: the estimate of four bytes each, or a model's own tokenizer.

    Raises EndpointError when that cannot be loaded.
    """
    if tokenizer == "bytes/4":
        return lambda trajectory: trajectory.n_tokens
    from transformers import AutoTokenizer

    try:
        known = AutoTokenizer.from_pretrained(locate(tokenizer), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise EndpointError(f"the tokenizer {tokenizer} cannot be loaded: {str(error).splitlines()[0]}",
                            "check trajectories.tokenizer and the network, or count by bytes/4") from error

    def count(trajectory: Trajectory) -> int:
        return len(known.apply_chat_template(trajectory.messages, return_dict=True)["input_ids"])

    return count


def build_example(row: Rollout, folder: Path) -> SftExample:
    """The example to train on of a kept rollout, with the conversation from its trajectory in `folder`."""
    assert row.score is not None, "only scored rollouts are kept"
    messages = [Message.model_validate(turn) for turn in Trajectory.load(folder).messages]
    return SftExample(
        id=row.id, task_id=row.task_id, rollout=row.rollout, messages=messages, score=row.score,
        baseline=row.baseline, n_tokens=row.n_tokens, exit_status=row.exit_status,
        prompt_hash=hash_prompts(AGENT_PROMPTS)[:16],
    )
