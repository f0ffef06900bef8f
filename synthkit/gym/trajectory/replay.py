"""Executes a list of raw actions in an environment and keeps everything it answered: a recorded run, played again."""

import json
import time
from pathlib import Path
from typing import Any

from synthkit.core.errors import RecordError
from synthkit.core.params import SandboxParams
from synthkit.gym.environment import Environment
from synthkit.gym.sandbox import make_plain
from synthkit.gym.task import Task


def read_actions(path: Path) -> list[str]:
    """The actions of a file: JSON lines (a string, or an object with `action`), or the steps of a .traj.

    Raises RecordError naming the line.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".traj":
        return list(map(read_action, load_steps(path, text)))
    actions = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            actions += [read_action(json.loads(line))] if line.strip() else []
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}, line {number}: not an action", 'write "ls" or {"action": "ls"}') from error
    return actions


def load_steps(path: Path, text: str) -> list[Any]:
    """The steps of a .traj as they stand in the file. Raises RecordError."""
    try:
        return list(json.loads(text)["trajectory"])
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is not a trajectory", "give a .traj of MLGym or of the kit") from error


def read_action(entry: Any) -> str:
    """The action of a line or a step. Raises KeyError or TypeError when it has none that is a text."""
    action = entry if isinstance(entry, str) else entry["action"]
    if not isinstance(action, str):
        raise TypeError("an action is a text")
    return action


def replay_actions(task: Task, actions: list[str], sandbox: SandboxParams, *, max_steps: int | None = None,
                   seed: int = 0) -> dict[str, Any]:
    """Play actions from reset to the last one, or to the ending; all times in seconds of wall time.

    `max_steps` is MLGym's limit; None lets every action be executed. `score` of a step is what it added to `scores`.
    """
    started = time.monotonic()
    with Environment(task, sandbox, max_steps=max_steps or len(actions) + 1, seed=seed) as env:
        told, _ = env.reset()
        ready = time.monotonic()
        steps = []
        for action in actions:
            if env.done:
                break
            steps.append(play_action(env, action))
        finished = time.monotonic()
    ended = time.monotonic()
    return {
        "task": task.id, "metric": task.metric, "direction": task.direction, "baseline": env.baseline,
        "prompt": told, "steps": steps, "exit_status": env.exit_status, "scores": env.scores, "parts": env.parts,
        "reward": env.reward, "actions_left": len(actions) - len(steps),
        "seconds": {"reset": ready - started, "steps": finished - ready, "close": ended - finished,
                    "total": ended - started},
    }


def play_action(env: Environment, action: str) -> dict[str, Any]:
    """One step as a replay reports it: the action, Gymnasium's values, what it added to the scores, the state."""
    known = len(env.scores)
    observation, reward, terminated, truncated, info = env.step(action)
    return {"action": action, "observation": observation, "reward": reward, "terminated": terminated,
            "truncated": truncated, "score": env.scores[-1] if len(env.scores) > known else None,
            "seconds": info["execution_time"], "state": None if env.done else env.state()}


def format_replay(replay: dict[str, Any]) -> str:
    """A replay as a person reads it: each action, what came back, and the ending."""
    lines = []
    for number, step in enumerate(replay["steps"], 1):
        lines += [f"--- step {number} ({step['seconds']:.3f} s)", make_plain(step["action"]), "--- observation",
                  step["observation"]]
    ending = replay["exit_status"] or "not handed in: the last action is neither submit nor an ending"
    lines += [f"--- {replay['task']}: {ending}", f"scores: {json.dumps(replay['scores'])}",
              f"baseline: {json.dumps(replay['baseline'])}", f"seconds: {replay['seconds']['total']:.3f}"]
    return "\n".join(lines) + "\n"
