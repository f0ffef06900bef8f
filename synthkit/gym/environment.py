"""An episode's world: a task's workspace in a sandbox, with MLGym's steps, scores, limits and endings.

Gymnasium's calls: `reset` and `step`. The reward is the improvement over the baseline of what was handed in, in
shares of the baseline's size (`measure_improvement`); every other step brings 0.

Two differences from MLGym are on purpose. The step that reaches the limit is still run, and then what lies in the
workspace is handed in (MLGym asks for one more action and throws it away). `validate` and `submit` count only as the
whole action, so nothing that a program prints can pass for them.
"""

import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from synthkit.core.errors import SandboxError
from synthkit.core.params import SandboxParams
from synthkit.core.text import cut_middle
from synthkit.gym.agent.observations import describe_score, describe_task
from synthkit.gym.agent.parsing import Call, Shell, split_action
from synthkit.gym.sandbox import Result, Sandbox, open_sandbox
from synthkit.gym.sandbox.folders import open_folder
from synthkit.gym.sandbox.fork import fork_session
from synthkit.gym.sandbox.workspace import prepare_workspace
from synthkit.gym.scoring import Score, find_submission, score_submission
from synthkit.gym.scoring.baseline import Metrics, find_baseline, measure_improvement, name_metric
from synthkit.gym.scoring.csv_form import Part
from synthkit.gym.task import Task

MAX_STEPS = 50
ACTION_TIMEOUT_S = 25
TRAINING_TIMEOUT_S = 3600
TRAINING = re.compile("python|torchrun|accelerate|deepspeed")
CUT_NOTE_CHARS = 200
NO_OUTPUT = "(the command ended without output)"
# They would wait for keys until the action's time is over. MLGym lists them too, but its check never matches.
NEED_TERMINAL = frozenset({"vi", "vim", "nvim", "view", "nano", "emacs", "ed", "pico", "joe"})
# MLGym's agent ends an episode by sending these; a model may too.
HANDING_IN = ("submit", "exit_context", "exit_cost", "exit_error", "exit_format", "exit_api", "exit_time")
UNSCORED_ENDINGS = {"skip": "skipped", "exit_forfeit": "exit_forfeit"}


class Environment:
    """One task, played from `reset` to an ending. A context manager; `close` stops the sandbox and deletes its files.

    `max_steps` counts actions (MLGym's published runs: 50). `training_timeout_s` bounds an action that runs Python
    (None takes the task's own, then MLGym's 3600 s); any other action has 25 s. `scores` and `parts` grow with each
    scored validate and submit; `baseline` is the score that results are compared with, `baseline_public` the one that
    the agent sees. With `shadow` every validated submission is scored on the private rows too, into `shadow_scores`,
    which the agent never sees. Raises SandboxError when no sandbox can be started.
    """

    def __init__(self, task: Task, sandbox: SandboxParams | None = None, *, max_steps: int = MAX_STEPS,
                 training_timeout_s: int | None = None, seed: int = 0, shadow: bool = False):
        self.task, self.params, self.max_steps, self.seed = task, sandbox or SandboxParams(), max_steps, seed
        self.shadow = shadow and task.meta.score_on == "halves"
        self.training_timeout_s = training_timeout_s or task.config.training_timeout or TRAINING_TIMEOUT_S
        self.baseline: Metrics = {}
        self.baseline_public: Metrics = {}
        self._stack = ExitStack()
        self._clear()

    def _clear(self) -> None:
        self.scores: list[Metrics] = []
        self.parts: list[str] = []
        self.shadow_scores: list[Metrics] = []
        self.steps_taken, self.reward, self.exit_status = 0, 0.0, ""

    def __enter__(self) -> "Environment":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the sandbox and delete its workspace; scores, steps and status stay. A second call does nothing."""
        self._stack.close()

    @property
    def done(self) -> bool:
        """Whether the episode has ended: then `step` needs a `reset` first."""
        return bool(self.exit_status)

    def reset(self, seed: int | None = None) -> tuple[str, dict[str, Any]]:
        """Start afresh in a new workspace; returns the task as the agent is told it, and `info`.

        `seed` replaces the one given at first. Two resets of one seed are the same, file times included. A baseline
        whose score is not stored is run first. Raises SandboxError when no sandbox can be started.
        """
        self.close()
        self.seed = self.seed if seed is None else seed
        self._clear()
        folder = open_folder()
        self.workspace = Path(self._stack.enter_context(folder))
        prepare_workspace(self.task, self.workspace)
        if not self.baseline_public:
            self.baseline_public, self.baseline = find_baseline(self.task, self.params)
            self.task = name_metric(self.task, self.baseline)
        self.sandbox: Sandbox = self._stack.enter_context(open_sandbox(self.workspace, self.params))
        self.sandbox.run(f"RANDOM={self.seed}", ACTION_TIMEOUT_S)
        return self.describe_task(), self._info()

    def describe_task(self) -> str:
        """The task as the agent is told it, in the first message."""
        return describe_task(self.task, self.baseline_public, training_timeout_s=self.training_timeout_s,
                             action_timeout_s=ACTION_TIMEOUT_S)

    def fork(self) -> "Environment":
        """A second environment at this step, which the caller closes: for best-of-n, or to try a step and drop it.

        It has copies of the workspace's files, the shell, the open file, steps and scores so far; what runs in the
        background stays here. Packing and unpacking the session may take 60 s each. Call it after `reset`. Raises
        RuntimeError after the episode's end, SandboxError when the session cannot be packed or a second one cannot be
        started, BadFile (sandbox/workspace.py) when the files are more than the sandbox's `disk_mb` MiB.
        """
        if self.done:
            raise RuntimeError("the episode is over: there is nothing to go on from")
        forked = Environment(self.task, self.params, max_steps=self.max_steps, seed=self.seed, shadow=self.shadow,
                             training_timeout_s=self.training_timeout_s)
        forked.baseline, forked.baseline_public = self.baseline, self.baseline_public
        forked.steps_taken = self.steps_taken
        forked.scores, forked.parts, forked.shadow_scores = [*self.scores], [*self.parts], [*self.shadow_scores]
        with ExitStack() as stack:
            folder = open_folder()
            forked.workspace = Path(stack.enter_context(folder))
            forked.sandbox = fork_session(self.sandbox, forked.workspace, self.params)
            stack.callback(forked.sandbox.stop)
            forked._stack = stack.pop_all()
        return forked

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Run one action: (observation, reward, terminated, truncated, info), as in Gymnasium.

        `info` holds step, exit_status, scores, parts and execution_time (seconds of wall time). An action that fails,
        overruns its time or kills the session is an observation. Raises RuntimeError after the end.
        """
        if self.done:
            raise RuntimeError("the episode is over: call reset")
        self.steps_taken += 1
        started = time.monotonic()
        observation = self._perform(action)
        why = "" if self.done else self._find_limit()
        truncated = bool(why)
        if truncated:
            observation = f"{observation}\n{self.finish(why)}"
        info = self._info() | {"execution_time": time.monotonic() - started}
        return observation, self.reward, self.done and not truncated, truncated, info

    def _find_limit(self) -> str:
        """Why the episode ends with this step though nobody handed in; '' when it goes on."""
        if self.steps_taken >= self.max_steps:
            return "max_steps"
        most = self.params.episode_cpu_s
        return "exit_cpu" if most is not None and self.sandbox.cpu_seconds > most else ""

    def _perform(self, action: str) -> str:
        command = action.strip()
        if command == "validate":
            return self._validate()
        if command in HANDING_IN:
            return self.finish(command)
        if command in UNSCORED_ENDINGS:
            self.exit_status = UNSCORED_ENDINGS[command]
            return f"Exited ({command})"
        try:
            return self._execute(action)
        except SandboxError as error:
            return f"The session died: {error.cause}\n{self.finish('early_exit')}"

    def _execute(self, action: str) -> str:
        """Run the parts of an action in order, all within one time limit."""
        limit = self.training_timeout_s if TRAINING.search(action) else ACTION_TIMEOUT_S
        end = time.monotonic() + limit
        outputs = []
        for part in split_action(action):
            result = self._run_part(part, max(0.1, end - time.monotonic()))
            outputs.append(result.output)
            if result.timed_out:
                outputs.append(f"EXECUTION TIMED OUT BECAUSE THE COMMAND WAS RUNNING FOR MORE THAN {limit} SECONDS.")
                break
        text = "\n".join(output.rstrip("\n") for output in outputs if output.strip())
        # Each part was cut already, with a line that says so; many parts are cut again.
        return cut_middle(text, (self.params.output_kb << 10) + CUT_NOTE_CHARS) or NO_OUTPUT

    def _run_part(self, part: Call | Shell, timeout_s: float) -> Result:
        if isinstance(part, Shell):
            program = (part.text.split() or [""])[0]
            if program in NEED_TERMINAL:
                return Result(f"({program} needs a terminal: use open and edit)", 1, False, 0.0)
            return self.sandbox.run(part.text, timeout_s)
        return self.sandbox.call(part.name, list(part.args), part.text)

    def _validate(self) -> str:
        score = self._score("public")
        if self.shadow and score.metrics is not None:
            unseen = score_submission(self.task, find_submission(self.task, self.workspace), "private", self.params)
            self.shadow_scores += [unseen.metrics] if unseen.metrics else []
        return describe_score(self.task, score, self.baseline_public)

    def finish(self, why: str) -> str:
        """End the episode by handing in what lies in the workspace; sets exit status and reward, returns a last line.

        `why` is one of `HANDING_IN`, max_steps, exit_cpu when `episode_cpu_s` is used up, or early_exit when no session
        can be started any more.
        """
        score = self._score("private")
        if score.metrics is not None:
            self.exit_status = "submitted" if why == "submit" else f"autosubmission ({why})"
            self.reward = measure_improvement(self.task, score.metrics, self.baseline)
        elif score.failure == "submission_not_found":
            self.exit_status = f"submission_not_found ({why})"
        elif score.failure == "evaluation_timeout":
            self.exit_status = f"EvaluationTimeout, {score.message}, ({why})"
        else:
            self.exit_status = f"evaluation_format_error ({why})"
        return f"Exited ({why})"

    def _score(self, half: Part) -> Score:
        part: Part = half if self.task.meta.score_on == "halves" else "all"
        score = score_submission(self.task, find_submission(self.task, self.workspace), part, self.params)
        if score.metrics is not None:
            self.scores.append(score.metrics)
            self.parts.append(part)
        return score

    def state(self) -> dict[str, str]:
        """The open file and the current folder, as the session reports them."""
        return self.sandbox.state()

    def _info(self) -> dict[str, Any]:
        return {"step": self.steps_taken, "exit_status": self.exit_status, "scores": [*self.scores],
                "parts": [*self.parts]}
