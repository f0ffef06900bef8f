"""What happened in an episode, in MLGym's own two files: `<task>.traj` and `results.json`.

MLGym's tools read both. What MLGym has no place for (the name of the model, which rows each score is on, tokens) lies
under the one extra key `synthkit` of the .traj.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.core.errors import RecordError
from synthkit.core.files import write_text

if TYPE_CHECKING:
    from synthkit.core.llm import Reply

ENVIRONMENT = "synthkit"
AGENT = "primary_0"
USAGE = ("tokens_in", "tokens_out", "usd")


@dataclass
class Step:
    """One reply and what came of it. `state` is a JSON text: open file and folder before the action."""

    state: str
    response: str
    thought: str
    action: str
    execution_time: float
    observation: str


@dataclass
class Trajectory:
    """An episode from its first message to its exit status.

    `messages` is the whole conversation, requests to mend a malformed reply left out. `scores` has one entry per scored
    validate and, last, the submission's; `parts` names the rows each is on: public, private or all. `shadow_scores`
    are validated submissions on the private rows, which the agent did not see. `step_usage` has one entry per step: the
    tokens, USD and number of all its requests, malformed replies included. Money in USD, `seconds` is wall time. A
    trajectory without an exit status is of an episode that has not ended yet.
    """

    task_id: str
    model: str
    exit_status: str = ""
    steps: list[Step] = field(default_factory=list)
    messages: list[dict[str, str]] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    baseline: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    reward: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    api_calls: int = 0
    seconds: float = 0.0
    n_tokens: int = 0
    shadow_scores: list[dict[str, float]] = field(default_factory=list)
    step_usage: list[dict[str, float]] = field(default_factory=list)

    def add(self, step: Step, replies: "Sequence[Reply]") -> None:
        """Append a step and count what the replies to it used."""
        self.add_counted(step, {name: sum(getattr(reply, name) for reply in replies) for name in USAGE}
                         | {"calls": len(replies)})

    def add_counted(self, step: Step, usage: dict[str, float]) -> None:
        """Append a step whose usage is known already: an entry of `step_usage`."""
        self.steps.append(step)
        self.step_usage.append(usage)
        self.tokens_in += int(usage["tokens_in"])
        self.tokens_out += int(usage["tokens_out"])
        self.usd += usage["usd"]
        self.api_calls += int(usage["calls"])

    @property
    def final_score(self) -> dict[str, float] | None:
        """The score of what was handed in, by the agent or for it at the end; None when nothing valid was."""
        handed_in = self.exit_status == "submitted" or self.exit_status.startswith("autosubmission")
        return self.scores[-1] if handed_in and self.scores else None

    def save(self, folder: Path) -> None:
        """Write `<task_id>.traj` and `results.json` into a folder, which is made; each is there whole or not at all.

        The .traj comes last, so that a folder that has one has both, of the same step.
        """
        results = {"agent": self.scores} | ({"baseline": self.baseline} if self.baseline else {})
        write_text(folder / "results.json", dump(results))
        write_text(folder / f"{self.task_id}.traj", dump(self.to_mlgym()))

    def to_mlgym(self) -> dict[str, Any]:
        """The content of the .traj file."""
        usage = {"total_cost": self.usd, "task_cost": self.usd, "tokens_sent": self.tokens_in,
                 "tokens_received": self.tokens_out, "api_calls": self.api_calls}
        own = {name: getattr(self, name) for name in OWN}
        return {
            "environment": ENVIRONMENT,
            "trajectory": [asdict(step) for step in self.steps],
            "history": [self._annotate(at) for at in range(len(self.messages))],
            "info": {"model_stats": usage, "exit_status": self.exit_status, "submission": None,
                     "score": self.scores, "summarizer": {}},
            "synthkit": own,
        }

    def _annotate(self, at: int) -> dict[str, Any]:
        """A message as MLGym keeps it: an assistant's with the thought and action that were read from it."""
        message = self.messages[at] | {"agent": AGENT}
        if message["role"] != "assistant":
            return message
        step = self.steps[sum(m["role"] == "assistant" for m in self.messages[:at])]
        return message | {"thought": step.thought, "action": step.action}

    @classmethod
    def load(cls, folder: Path) -> "Trajectory":
        """Read what `save` wrote, or a run folder of MLGym. Raises RecordError."""
        paths = sorted(folder.glob("*.traj"))
        if len(paths) != 1:
            raise RecordError(f"{folder} holds {len(paths)} .traj files, not one", "name the folder of one episode")
        path = paths[0]
        try:
            traj = json.loads(path.read_text(encoding="utf-8"))
            results_path = folder / "results.json"
            results = json.loads(results_path.read_text(encoding="utf-8")) if results_path.exists() else {}
            return read_mlgym(path.stem, traj, results)
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path} is not a trajectory: {error!r}", "take it away; a resumed run makes it anew"
                              ) from error


# Fields of a Trajectory that MLGym's format has no place for.
OWN = ("model", "parts", "shadow_scores", "seed", "reward", "seconds", "n_tokens", "step_usage")
STEP_FIELDS = ("state", "response", "thought", "action", "execution_time", "observation")


def read_mlgym(task_id: str, traj: dict[str, Any], results: dict[str, Any]) -> Trajectory:
    """A Trajectory from the parsed content of MLGym's two files."""
    info, own = traj["info"], traj.get("synthkit", {})
    usage = info.get("model_stats", {})
    return Trajectory(
        **{"model": "unknown"} | own,
        task_id=task_id,
        exit_status=info.get("exit_status") or "",
        steps=[Step(**{name: step[name] for name in STEP_FIELDS}) for step in traj["trajectory"]],
        messages=[{"role": m["role"], "content": m["content"]} for m in traj["history"]],
        scores=info.get("score") or [],
        baseline=results.get("baseline", {}),
        tokens_in=usage.get("tokens_sent", 0),
        tokens_out=usage.get("tokens_received", 0),
        usd=usage.get("total_cost", 0.0),
        api_calls=usage.get("api_calls", 0),
    )


def dump(content: dict[str, Any]) -> str:
    """The text of a JSON file, indented by two blanks."""
    return json.dumps(content, indent=2) + "\n"


def estimate_tokens(messages: Sequence[dict[str, str]]) -> int:
    """Tokens of a conversation at four bytes a token, and four for the frame of each message."""
    return sum(len(message["content"].encode(errors="replace")) // 4 + 4 for message in messages)
