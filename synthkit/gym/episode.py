"""A chat model as MLGym's agent: one reply, one action, one observation, until the episode ends."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from synthkit.core.errors import ContextOverflow, CutReply, EmptyReply, ReasoningOnlyReply, ReplyError
from synthkit.core.executor import raise_if_stopped
from synthkit.core.llm import Reply
from synthkit.core.params import SandboxParams
from synthkit.core.prompts import render_prompt
from synthkit.gym.agent.history import Messages, choose_history
from synthkit.gym.agent.parsing import FormatError
from synthkit.gym.agent.replies import choose_format
from synthkit.gym.agent.tools import describe_tools
from synthkit.gym.environment import Environment
from synthkit.gym.sandbox.backends.session_files import WORKSPACE
from synthkit.gym.task import Task
from synthkit.gym.trajectory import Step, Trajectory, estimate_tokens

AGENT_PROMPTS = ("agent_system", "agent_task", "agent_retry")
MAX_MALFORMED = 3
# Endings that a reply brought about: it is kept in the last step.
ENDED_BY_REPLY = ("exit_format", "exit_cost")
# Replies that can be mended by asking again: the model is told what was wrong, as with any malformed one.
MALFORMED = (FormatError, EmptyReply, ReasoningOnlyReply, CutReply)
NO_TEXT = "(no text)"

Model = Callable[[Messages], Reply | str]
Save = Callable[[Trajectory], None]


class LimitReached(Exception):
    """The episode's money or time is used up; `why` is exit_cost or exit_time."""

    def __init__(self, why: str):
        super().__init__(why)
        self.why = why


class Diverged(Exception):
    """A saved episode played again: the environment answered something else than it did then."""


@dataclass
class Agent:
    r"""A model with its conversation. Any function of the messages that gives a text is a model:

        agent = Agent(model=lambda messages: "DISCUSSION\nI hand in.\n```\nsubmit\n```")
        with Environment(task) as env:
            trajectory = agent.play(env)

    A model may give a `core.llm.Reply` instead, with the tokens and USD that it used; a plain text counts as free.
    `history` is 'default', 'last<N>' or 'closed_window', see `choose_history`; `reply_format` is 'thought_action',
    'xml', 'json' or 'tool_call', see `replies.py`. For 'tool_call' give an endpoint the tools of `list_tools`.
    `cost_limit_usd` ends the episode after the reply that exceeds it, which is not executed (MLGym's
    per_instance_cost_limit; at the list price, also of a reply that was kept from before, so that an interruption does
    not change it). `time_limit_s` is wall time from the first turn on, looked at before each request, never inside an
    action. None is no limit.
    `messages` is the conversation; `replies` holds every reply, malformed ones too. Raises ParamError for an unknown
    history or format.
    """

    model: Model
    history: str = "default"
    reply_format: str = "thought_action"
    cost_limit_usd: float | None = None
    time_limit_s: float | None = None
    messages: Messages = field(init=False)
    replies: list[Reply] = field(init=False)

    def __post_init__(self) -> None:
        self._choose, self._read = choose_history(self.history), choose_format(self.reply_format)
        self.restart()

    def restart(self) -> None:
        """Forget the conversation; only the system message is left."""
        system = render_prompt("agent_system", workspace=WORKSPACE, reply_format=self.reply_format,
                               tools=describe_tools())
        self.messages, self.replies = [{"role": "system", "content": system}], []
        self._deadline, self._taken, self._usd_before = math.inf, 0, 0.0

    def go_on(self, messages: Messages, seconds: float, usd: float) -> None:
        """Take up a conversation after its last reply; `seconds` and `usd` are what it took until then."""
        self.restart()
        self.messages, self._usd_before = [*messages], usd
        if self.time_limit_s is not None:
            self._deadline = time.monotonic() + self.time_limit_s - seconds

    def take_replies(self) -> list[Reply]:
        """The replies since the last call of this."""
        taken, self._taken = self._taken, len(self.replies)
        return self.replies[taken:]

    def act(self, turn: str) -> tuple[str, str, str]:
        """(response, thought, action) to a user turn.

        A malformed reply and the request to mend it are shown to the model once and not kept; so is one without text.
        Raises FormatError after three malformed replies in a row, LimitReached, and what the model raises.
        """
        if len(self.messages) == 1 and self.time_limit_s is not None:
            self._deadline = time.monotonic() + self.time_limit_s
        self.messages.append({"role": "user", "content": turn})
        aside: Messages = []
        for _ in range(MAX_MALFORMED):
            asked = len(self.replies)
            try:
                text = self._ask(aside)
                thought, action = self._read(text)
            except MALFORMED as error:
                fault = error
            else:
                self.messages.append({"role": "assistant", "content": text})
                return text, thought, action
            said = next((reply.text for reply in self.replies[asked:]), "") or NO_TEXT
            retry = render_prompt("agent_retry", fault=fault.cause, reply_format=self.reply_format)
            aside += [{"role": "assistant", "content": said}, {"role": "user", "content": retry}]
        raise FormatError(fault.cause) from fault

    def _ask(self, aside: Messages) -> str:
        if time.monotonic() >= self._deadline:
            raise LimitReached("exit_time")
        try:
            self.replies.append(wrap_reply(self.model(self._choose(self.messages) + aside)))
        except ReplyError as error:
            # It was paid for, though it cannot be used.
            self.replies += [error.reply] if isinstance(error.reply, Reply) else []
            raise
        finally:
            spent = self._usd_before + sum(reply.usd for reply in self.replies)
        if self.cost_limit_usd is not None and spent > self.cost_limit_usd:
            raise LimitReached("exit_cost")
        return self.replies[-1].text

    def play(self, env: Environment, name: str = "model", *, saved: Trajectory | None = None,
             save: Save | None = None) -> Trajectory:
        """Play an environment from its reset to an ending, in a new conversation; `name` is the model's in the result.

        `save` is called with the trajectory after each step that does not end it. `saved` is such a trajectory: its
        actions are played again, without asking the model, and the episode goes on from there. Raises Diverged where
        the environment then answers something else than it did.
        A bad rollout is a Trajectory that says so, not an exception. What an endpoint failed in is no rollout: raises
        TransientEndpointError, and what a person has to act on: SandboxError when no sandbox can be started,
        BudgetError, EndpointError that no retry can mend, and whatever else the model raises.
        """
        started = time.monotonic()
        self.restart()
        observation, _ = env.reset()
        trajectory = Trajectory(env.task.id, name, seed=env.seed)
        if saved is not None:
            observation = play_again(env, self, observation, saved, trajectory)
            started = time.monotonic() - saved.seconds
        try:
            while not env.done:
                observation = play_step(env, self, observation, trajectory)
                if save and not env.done:
                    record_state(env, self, trajectory, started)
                    save(trajectory)
        except FormatError:
            end_early(env, self, trajectory, "exit_format")
        except ContextOverflow:
            end_early(env, self, trajectory, "exit_context")
        except ReplyError:
            end_early(env, self, trajectory, "exit_error")
        except LimitReached as limit:
            end_early(env, self, trajectory, limit.why)
        record_state(env, self, trajectory, started)
        return trajectory


def run_episode(task: Task, model: Model, sandbox: SandboxParams, *, max_steps: int, name: str,
                training_timeout_s: int | None = None, history: str = "default", reply_format: str = "thought_action",
                cost_limit_usd: float | None = None, time_limit_s: float | None = None, seed: int = 0,
                shadow: bool = False, saved: Trajectory | None = None, save: Save | None = None) -> Trajectory:
    """Play a task with a model from start to end: `Agent.play` in an Environment of its own, closed at the end.

    `max_steps` counts actions; `training_timeout_s` bounds an action that runs Python, in seconds (None: the task's
    own, then 3600); `cost_limit_usd` is USD at the list price and `time_limit_s` wall time in seconds, both for the
    whole episode, None for no limit. `name` is the model's in the trajectory; `history`, `reply_format` as in Agent,
    `shadow` as in Environment, `saved` and `save` as in `Agent.play`.

    Raises ParamError for an unknown history or format, SandboxError when no sandbox can be started, Diverged when
    `saved` cannot be played again, and what the model raises but for ReplyError and ContextOverflow: those end the
    episode, and the trajectory's exit status says so.
    """
    agent = Agent(model, history, reply_format, cost_limit_usd, time_limit_s)
    with Environment(task, sandbox, max_steps=max_steps, training_timeout_s=training_timeout_s, seed=seed,
                     shadow=shadow) as env:
        return agent.play(env, name, saved=saved, save=save)


def wrap_reply(reply: Reply | str) -> Reply:
    """A model's answer as a Reply. Raises TypeError when it is neither a Reply nor a text."""
    if isinstance(reply, str):
        return Reply(reply, 0, 0, 0.0, cached=False)
    if not isinstance(reply, Reply):
        raise TypeError(f"a model gives a str or a synthkit.core.llm.Reply, and this one gave {type(reply).__name__}")
    return reply


def play_step(env: Environment, agent: Agent, observation: str, trajectory: Trajectory) -> str:
    """One reply and its action; the step is recorded. Returns the new observation."""
    state = env.state()
    response, thought, action = agent.act(format_turn(env, observation, state))
    seen, _, _, _, info = env.step(action)
    step = Step(json.dumps(state), response, thought, action, info["execution_time"], seen)
    trajectory.add(step, agent.take_replies())
    return seen


def play_again(env: Environment, agent: Agent, observation: str, saved: Trajectory, trajectory: Trajectory) -> str:
    """The saved steps, their actions executed anew; returns the last observation. Raises Diverged."""
    if saved.messages[0] != agent.messages[0]:
        raise Diverged("the system message is another one")
    for at, (step, usage) in enumerate(zip(saved.steps, saved.step_usage, strict=True)):
        raise_if_stopped()
        state = env.state()
        if saved.messages[1 + 2 * at]["content"] != format_turn(env, observation, state):
            raise Diverged(f"the turn before step {at + 1} is another one")
        observation, _, _, _, info = env.step(step.action)
        if observation != step.observation or env.done:
            raise Diverged(f"step {at + 1} gave another observation")
        trajectory.add_counted(Step(json.dumps(state), step.response, step.thought, step.action,
                                    info["execution_time"], observation), usage)
    agent.go_on(saved.messages, saved.seconds, saved.usd)
    return observation


def format_turn(env: Environment, observation: str, state: dict[str, str]) -> str:
    """A user turn: what came back, and where the agent stands."""
    return (f"{observation}\n(Current Step: {env.steps_taken}, Remaining Steps: {env.max_steps - env.steps_taken})\n"
            f"(Open file: {state['open_file'] or 'n/a'})\n(Current directory: {state['working_dir']})\nbash-$")


def end_early(env: Environment, agent: Agent, trajectory: Trajectory, why: str) -> None:
    """Hand in what there is when the model cannot go on; a last reply that brought it about is kept."""
    response = agent.replies[-1].text if why in ENDED_BY_REPLY and agent.replies else ""
    step = Step(json.dumps(env.state()), response, "", why, 0.0, env.finish(why))
    trajectory.add(step, agent.take_replies())


def record_state(env: Environment, agent: Agent, trajectory: Trajectory, started: float) -> None:
    """What stands beside the steps: outcome, scores and conversation so far."""
    trajectory.exit_status, trajectory.reward = env.exit_status, env.reward
    trajectory.scores, trajectory.parts, trajectory.baseline = env.scores, env.parts, env.baseline
    trajectory.shadow_scores, trajectory.messages = env.shadow_scores, agent.messages
    trajectory.n_tokens = estimate_tokens(agent.messages)
    trajectory.seconds = time.monotonic() - started
