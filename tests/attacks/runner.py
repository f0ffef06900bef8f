"""Plays attacks in real environments, one per profile, and says of each what was seen and what did not hold.

After every attack the session has to answer, no observation and no state may hold the canary or a control character,
and the host's files and sockets are as they were. After every attack on a score, and at the end of all, an honest
submission has to get exactly its true score.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from synthkit.core.errors import SandboxError
from synthkit.gym.environment import Environment
from synthkit.gym.sandbox.workspace import BadFile
from synthkit.gym.trajectory import Step, Trajectory

from .kit import FORK, PROFILES, Attack, World

MAX_STEPS = 100_000
END_TIMEOUT_S = 300  # Only what is really left takes so long.
# Escapes and controls; marks of direction in Unicode (UAX 9).
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
LINE_CHARS = 90
# After the others the end of the episode alone tells that honest work is scored, which takes less time.
AT_SCORES = frozenset({"labels", "replacing", "submission", "code", "warm", "test"})
KIT_FAILED = "the kit itself failed"


@dataclass
class Outcome:
    """How an attack ended: the deciding line of what was seen, and what did not hold."""

    attack: Attack
    line: str
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """The faults, or that the attack failed."""
        return "; ".join(self.faults) or "failed, as it should"


class Stage:
    """An environment of one profile in which attacks follow one another, and all that was seen of them."""

    def __init__(self, world: World, profile: str):
        self.world = world
        params, timeout_s = PROFILES[profile]
        self.game = world.games[profile]
        self.env = Environment(self.game.task, params, max_steps=MAX_STEPS, training_timeout_s=timeout_s)
        self.env.reset()
        self.trajectory = Trajectory(self.game.task.id, "attacker")
        self.act(self.game.write_honest)
        self.namespaces: set[str] = set()

    def act(self, action: str) -> str:
        """Take one step and record it; whatever the kit raises becomes the observation."""
        state = json.dumps(self.env.state())
        started = time.monotonic()
        try:
            observation = self.fork() if action == FORK else self.env.step(action)[0]
        except Exception as error:  # whatever comes out, a rollout would die of it
            observation = f"{KIT_FAILED}: {error!r}"
        seconds = time.monotonic() - started
        self.trajectory.steps.append(Step(state, action, "", action, seconds, observation))
        return observation

    def fork(self) -> str:
        """Fork the episode and say which folder the fork is in, or why there is none."""
        try:
            with self.env.fork() as forked:
                return f"forked: {forked.step('pwd')[0]}"
        except (BadFile, SandboxError) as error:
            return f"not forked: {error}"

    def play(self, attack: Attack) -> Outcome:
        """Play one attack and look for all that must hold after it."""
        started = time.monotonic()
        scores_before, steps_before = len(self.env.scores), len(self.trajectory.steps)
        self.act("cd ~/workspace; umask 022")
        self.namespaces.add(self.act("readlink /proc/self/ns/pid"))
        seen = "\n".join(self.act(self.world.fill(action)) for action in attack.actions)
        found = re.search(attack.seen, seen, re.MULTILINE)
        outcome = Outcome(attack, find_line(found) if found else seen[-LINE_CHARS:].replace("\n", " | "))
        if not found:
            outcome.faults.append(f"it was not reported as {attack.seen!r}")
        outcome.faults += self.check_scores(attack, self.env.scores[scores_before:])
        outcome.faults += self.check_session(attack.family in AT_SCORES)
        steps = self.trajectory.steps[steps_before:]
        outcome.faults += self.check_secrets("".join(step.observation + step.state for step in steps))
        outcome.faults += [step.observation for step in steps if step.observation.startswith(KIT_FAILED)]
        outcome.faults += find_controls(steps)
        if not attack.scored:
            outcome.faults += find_forged(steps[:2 + len(attack.actions)])
        outcome.seconds = time.monotonic() - started
        return outcome

    def check_scores(self, attack: Attack, scores: list[dict[str, float]]) -> list[str]:
        """What is wrong with the scores that an attack got: any where none was due, or one too good."""
        if not attack.scored and scores:
            return [f"it got a score: {scores}"]
        return [f"a score that is too good: {score}" for score in scores if score["accuracy"] > self.game.public]

    def check_session(self, scores: bool) -> list[str]:
        """The shell answers, and honest work is scored as ever."""
        if "it goes on" not in self.act("cd ~/workspace; echo it goes on"):
            return ["the session is dead"]
        if not scores:
            return []
        self.act(self.game.write_honest)
        scored = len(self.env.scores)
        said = self.act("validate")
        got = self.env.scores[scored:]
        return [] if got == [{"accuracy": self.game.public}] else [f"honest work got {got}: {said[-LINE_CHARS:]}"]

    def check_secrets(self, text: str) -> list[str]:
        """What of the host came out, was changed, or was reached."""
        faults = ["a secret of the host's came out"] if self.world.canary in text else []
        before, self.world.before = self.world.before, self.world.fingerprint()
        if self.world.before != before:
            faults.append("files of the host were changed")
        return faults + [f"somebody came to the host's {name} socket" for name in self.world.find_visits()]

    def finish(self, folder: Path) -> list[str]:
        """Hand in honest work, close, and look for what is left; the trajectory lies in `folder` then."""
        self.namespaces.add(self.act("readlink /proc/self/ns/pid"))
        self.act(self.game.write_honest)
        self.act("submit")
        faults = []
        if self.env.scores[-1:] != [{"accuracy": self.game.private}] or self.env.exit_status != "submitted":
            faults.append(f"honest work got {self.env.scores[-1:]}, {self.env.exit_status} in the end")
        try:
            self.env.close()
        except Exception as error:  # as above
            faults.append(f"{KIT_FAILED} to close: {error!r}")
        if self.env.workspace.exists():
            faults.append("the workspace is left")
        self.trajectory.save(folder)
        text = "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
        faults += ["a secret is in the trajectory"] if self.world.canary in text else []
        return faults + [f"process {pid} is left" for pid in await_end(self.namespaces)]


def find_line(found: re.Match[str]) -> str:
    """The line of an observation that a match begins in."""
    start = found.string.rfind("\n", 0, found.start()) + 1
    return found.string[start:].split("\n", 1)[0][:LINE_CHARS]


def find_controls(steps: Iterable[Step]) -> list[str]:
    """The control characters in observations and states, as one fault."""
    texts = [text for step in steps for text in (step.observation, *json.loads(step.state).values())]
    found = sorted({repr(sign) for text in texts for sign in CONTROLS.findall(text)})
    return [f"control characters reach a person: {' '.join(found)}"] if found else []


def find_forged(steps: Iterable[Step]) -> list[str]:
    """A validate that gave no score must not look like one that did."""
    said = [step.observation for step in steps if step.action == "validate"]
    forged = any(re.search("^Your score:", text, re.MULTILINE) for text in said)
    return ["validate shows a forged score"] if forged else []


def list_members(namespaces: set[str]) -> list[int]:
    """The processes of the host that live in one of these PID namespaces."""
    members = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            members += [int(name)] if os.readlink(f"/proc/{name}/ns/pid") in namespaces else []
        except OSError:
            continue
    return members


def await_end(namespaces: set[str]) -> list[int]:
    """The processes that are left of these namespaces: what was just killed has a moment to be gone."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while (members := list_members(namespaces)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return members


def play_all(world: World, profile: str, attacks: Iterable[Attack], folder: Path) -> Iterator[Outcome]:
    """Play the attacks of one profile in one environment; what is found at its end comes as an outcome of its own."""
    stage = Stage(world, profile)
    try:
        for attack in attacks:
            yield stage.play(attack)
        end = Attack(f"what is left of {profile}", "end", (), "")
        yield Outcome(end, "honest work is scored, nothing is left", stage.finish(folder))
    finally:
        stage.env.close()
