"""Where a stage's part of a task comes from: teacher, seed, prompts and cost, for the task's synthkit.yaml."""

from collections.abc import Sequence

from synthkit.core.fingerprint import PROMPTS_OF
from synthkit.core.llm import ChatClient, Reply
from synthkit.core.prompts import hash_prompts
from synthkit.core.stage import Stage
from synthkit.gym.task.config import Origin


def build_origin(stage: Stage, client: ChatClient, replies: Sequence[Reply]) -> Origin:
    """Teacher, seed, prompts and cost of the replies that this part of a task was made from."""
    tokens_in, tokens_out = sum(reply.tokens_in for reply in replies), sum(reply.tokens_out for reply in replies)
    return Origin(teacher=client.teacher.model, seed=stage.seed,
                  prompts={name: hash_prompts([name]) for name in PROMPTS_OF[stage.name]},
                  tokens_in=tokens_in, tokens_out=tokens_out, usd=round(client.price(tokens_in, tokens_out), 6))
