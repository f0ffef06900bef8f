"""A chat model as MLGym's agent: one reply, one action, one observation, until the episode ends."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from synthkit.core.errors import ReplyError, TransientEndpointError
from synthkit.core.params import SandboxParams
from synthkit.core.prompts import render_prompt
from synthkit.gym.bwrap import WORKSPACE
from synthkit.gym.environment import Environment
from synthkit.gym.history import HISTORY, Messages
from synthkit.gym.parsing import FormatError, parse_reply
from synthkit.gym.task import Task
from synthkit.gym.trajectory import Step, Trajectory, estimate_tokens

if TYPE_CHECKING:
    from synthkit.core.llm import Reply

AGENT_PROMPTS = ("agent_system", "agent_task", "agent_retry")
MAX_MALFORMED = 3


@dataclass
class Agent:
    """A model with its conversation. `usage` counts every request, those after malformed replies too."""

    model: "Callable[[Messages], Reply]"
    history: str = "default"
    messages: Messages = field(default_factory=list)
    replies: "list[Reply]" = field(default_factory=list)

    def __post_init__(self) -> None:
        self.messages.append({"role": "system", "content": render_prompt("agent_system", workspace=WORKSPACE)})

    def act(self, turn: str) -> tuple[str, str, str]:
        """(response, thought, action) to a user turn. Raises FormatError after three malformed replies in a row.

        A malformed reply and the request to mend it are shown to the model once and not kept.
        """
        self.messages.append({"role": "user", "content": turn})
        aside: Messages = []
        for attempt in range(1, MAX_MALFORMED + 1):
            reply = self.model(HISTORY[self.history](self.messages) + aside)
            self.replies.append(reply)
            try:
                thought, action = parse_reply(reply.text)
            except FormatError as error:
                if attempt == MAX_MALFORMED:
                    raise
                retry = render_prompt("agent_retry", fault=error.cause)
                aside += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": retry}]
                continue
            self.messages.append({"role": "assistant", "content": reply.text})
            return reply.text, thought, action
        raise AssertionError("the loop returns or raises")


def run_episode(task: Task, model: "Callable[[Messages], Reply]", sandbox: SandboxParams, *, max_steps: int, name: str,
                training_timeout_s: int | None = None, history: str = "default", seed: int = 0,
                shadow: bool = False) -> Trajectory:
    """Play a task with a model from start to end. A bad rollout is a Trajectory that says so, not an exception.

    `name` is the model's name in the trajectory; `history` is 'default' or 'last5'; `shadow` as in Environment.
    Raises what a person has to act on: SandboxError when none can be started, BudgetError, EndpointError that no retry
    can mend.
    """
    started = time.monotonic()
    agent = Agent(model, history)
    trajectory = Trajectory(task.id, name, seed=seed)
    with Environment(task, sandbox, max_steps=max_steps, training_timeout_s=training_timeout_s, seed=seed,
                     shadow=shadow) as env:
        observation, _ = env.reset()
        try:
            while not env.done:
                observation = play_step(env, agent, observation, trajectory)
        except FormatError:
            end_early(env, agent, trajectory, "exit_format")
        except ReplyError:
            end_early(env, agent, trajectory, "exit_context")
        except TransientEndpointError:
            end_early(env, agent, trajectory, "exit_api")
        record_outcome(env, agent, trajectory)
    trajectory.seconds = time.monotonic() - started
    return trajectory


def play_step(env: Environment, agent: Agent, observation: str, trajectory: Trajectory) -> str:
    """One reply and its action; the step is recorded. Returns the new observation."""
    state = env.state()
    response, thought, action = agent.act(format_turn(env, observation, state))
    seen, _, _, _, info = env.step(action)
    step = Step(json.dumps(state), response, thought, action, info["execution_time"], seen)
    trajectory.steps.append(step)
    return seen


def format_turn(env: Environment, observation: str, state: dict[str, str]) -> str:
    """A user turn: what came back, and where the agent stands."""
    return (f"{observation}\n(Current Step: {env.steps_taken}, Remaining Steps: {env.max_steps - env.steps_taken})\n"
            f"(Open file: {state['open_file'] or 'n/a'})\n(Current directory: {state['working_dir']})\nbash-$")


def end_early(env: Environment, agent: Agent, trajectory: Trajectory, why: str) -> None:
    """Hand in what there is when the model cannot go on; the last reply, if it was the trouble, is kept in a step."""
    response = agent.replies[-1].text if why == "exit_format" else ""
    trajectory.steps.append(Step(json.dumps(env.state()), response, "", why, 0.0, env.finish(why)))


def record_outcome(env: Environment, agent: Agent, trajectory: Trajectory) -> None:
    trajectory.exit_status, trajectory.reward = env.exit_status, env.reward
    trajectory.scores, trajectory.parts, trajectory.baseline = env.scores, env.parts, env.baseline
    trajectory.shadow_scores, trajectory.messages = env.shadow_scores, agent.messages
    trajectory.n_tokens = estimate_tokens(agent.messages)
    trajectory.tokens_in = sum(reply.tokens_in for reply in agent.replies)
    trajectory.tokens_out = sum(reply.tokens_out for reply in agent.replies)
    trajectory.usd = sum(reply.usd for reply in agent.replies)
    trajectory.api_calls = len(agent.replies)
