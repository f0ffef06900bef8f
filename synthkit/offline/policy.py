"""The scripted teacher's agent policy: reads the observations of an episode and chooses the next action.

It is a script, not a language model, and is called the scripted teacher wherever its work is shown. It keeps no state
of its own: each call reads the whole conversation again, what was asked, what was done, what came back.

Seed and task's name fix a rollout's habits (`draw_habits`): what it looks at, whether it runs the baseline, in which
order it tries models and how many it wants, which slip it makes, whether it gives up or only wanders. The seed also
draws two constants of each script, and what a wandering rollout looks at next. All else follows the observations.
"""

import random
import re
from dataclasses import dataclass

from synthkit.offline.answers import Messages
from synthkit.offline.recipes import MISTAKES, Mistake, name_model, order_recipes, write_script

LOOKS = (
    ("I start with the files.", "ls -F . data"),
    ("I look at the first rows of the data.", "head -n 3 data/train.csv"),
    ("I read the baseline first.", "cat baseline.py"),
    ("I check what a submission looks like.", "head -n 3 data/sample_submission.csv"),
    ("I check size and types of the columns.",
     "python -c \"import pandas as pd; d = pd.read_csv('data/train.csv'); print(d.shape, d.dtypes.value_counts())\""),
)
DECISIVE = ("TASK: ", "Metric: ", "Task kind: ", "Baseline ")
FAILURE = re.compile(r"Traceback|Error|EXECUTION TIMED OUT|not found")


@dataclass(frozen=True)
class Brief:
    """What the task's first message says. `direction` is higher or lower; `lines` decide how to solve the task."""

    name: str
    kind: str
    direction: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Turn:
    """One step so far: what was done, and what came back without MLGym's lines on the state."""

    action: str
    observation: str


@dataclass(frozen=True)
class Habits:
    """What the seed fixes for a rollout.

    `looks` are places in LOOKS; after `wanted` scores above the baseline the rollout submits.
    """

    looks: tuple[int, ...]
    runs_baseline: bool
    recipes: tuple[str, ...]
    wanted: int
    editor: bool
    mistake: Mistake | None
    gives_up: bool
    wanders: bool


def next_action(messages: Messages, seed: int) -> str:
    """The reply to a conversation: a thought and one fenced action. Same messages and seed, same reply."""
    brief, turns = read_brief(messages), read_turns(messages)
    habits = draw_habits(seed, brief)
    thought, action = choose(brief, turns, habits, seed)
    return f"DISCUSSION\n{thought}\n```\n{action}\n```"


def read_brief(messages: Messages) -> Brief:
    """The task as the user's first message states it; what it does not state has a default."""
    text = next((m["content"] for m in messages if m["role"] == "user"), "")

    def find(pattern: str, default: str) -> str:
        found = re.search(pattern, text, re.MULTILINE)
        return found.group(1).strip() if found else default

    decisive = [line for line in text.splitlines() if line.startswith(DECISIVE)]
    return Brief(
        name=find(r"^TASK: (.+)$", "this task"),
        kind=find(r"^Task kind: (\w+)", "regression"),
        direction=find(r"^Metric: \S+ \((higher|lower)", "higher"),
        lines=tuple(decisive),
    )


def read_turns(messages: Messages) -> list[Turn]:
    """The steps so far: each reply of the teacher with the observation that follows it."""
    turns = []
    for said, seen in zip(messages, messages[1:], strict=False):
        if said["role"] == "assistant" and seen["role"] == "user":
            action = re.search(r"^```\w*\n(.*)\n```\s*$", said["content"], re.DOTALL | re.MULTILINE)
            observation = seen["content"].split("\n(Current Step:")[0]
            turns.append(Turn(action.group(1) if action else "", observation))
    return turns


def draw_habits(seed: int, brief: Brief) -> Habits:
    """A rollout's habits, from its seed and the task's name alone.

    Of all rollouts 6 % give up at the first error, 4 % only wander, and about a quarter make a slip.
    """
    rng = random.Random(f"habits {seed} {brief.name}")
    fate = rng.random()
    return Habits(
        looks=tuple(rng.sample(range(len(LOOKS)), rng.choice([1, 1, 2]))),
        runs_baseline=rng.random() < 0.5,
        recipes=tuple(order_recipes(rng)),
        wanted=rng.choice([1, 1, 1, 2]),
        editor=rng.random() < 0.06,
        mistake=rng.choice(MISTAKES) if rng.random() < 0.2 or fate < 0.06 else None,
        gives_up=fate < 0.06,
        wanders=0.06 <= fate < 0.10,
    )


def choose(brief: Brief, turns: list[Turn], habits: Habits, seed: int) -> tuple[str, str]:
    """One decision: an opening move, a reaction to an error, or the next step of the search."""
    if habits.wanders:
        return wander(turns, seed)
    if len(turns) < len(habits.looks):
        thought, action = LOOKS[habits.looks[len(turns)]]
        return (thought if turns else f"{quote_task(brief)}\n{thought}"), action
    last = turns[-1]
    if last.action == "validate":
        return after_validate(brief, turns, habits, seed)
    if last.action == "create solve.py":
        return write_in_editor(brief, turns, habits, seed)
    if last.action.startswith("cp best.csv"):
        return "The best submission is back in place. I submit it.", "submit"
    if last.action == "python baseline.py" and not FAILURE.search(last.observation):
        return "The baseline ran. I validate it to see its score.", "validate"
    if not any("python baseline.py" == t.action for t in turns) and habits.runs_baseline:
        return "I run the baseline to have something to compare with.", "python baseline.py"
    if "solve.py" in last.action and FAILURE.search(last.observation):
        return after_error(brief, turns, habits, seed)
    if last.action.startswith("edit"):
        return "The script is written. I run it.", "python solve.py"
    if "python solve.py" in last.action:
        return "The script wrote a submission. I validate it.", "validate"
    return write_next(brief, turns, habits, seed)


def wander(turns: list[Turn], seed: int) -> tuple[str, str]:
    """Look at something again: such a rollout never hands anything in, and the filter has to refuse it."""
    rng = random.Random(f"wander {seed} {len(turns)}")
    return rng.choice(LOOKS)


def attempts(turns: list[Turn]) -> int:
    """How many whole solutions were written so far, by the shell or in the editor."""
    return sum(t.action.startswith("edit") or "cat > solve.py" in t.action for t in turns)


def write_next(brief: Brief, turns: list[Turn], habits: Habits, seed: int, lead: str = "") -> tuple[str, str]:
    """Write the next recipe's script and run it in one action; a submission that beat the baseline is kept aside.

    A rollout that uses the editor opens a new file instead, for its first script.
    """
    if habits.editor and attempts(turns) == 0:
        return f"{lead}I open a new file for my solution.", "create solve.py"
    thought, script = draft(brief, turns, habits, seed)
    keep = "cp submission.csv best.csv\n" if good_scores(turns) else ""
    return lead + thought, f"{keep}cat > solve.py <<'EOF'\n{script}\nEOF\npython solve.py"


def write_in_editor(brief: Brief, turns: list[Turn], habits: Habits, seed: int) -> tuple[str, str]:
    """Write the next recipe's script into the file that is open."""
    thought, script = draft(brief, turns, habits, seed)
    return thought, f"edit 1:1\n{script}\nend_of_edit"


def draft(brief: Brief, turns: list[Turn], habits: Habits, seed: int) -> tuple[str, str]:
    """A thought and the next recipe's script; the first script of a rollout holds its slip, if it makes one."""
    done = attempts(turns)
    recipe = habits.recipes[done % len(habits.recipes)]
    rng = random.Random(f"script {seed} {brief.name} {done}")
    script = write_script(recipe, brief.kind, rng)
    if habits.mistake and done == 0:
        script = script.replace(habits.mistake.right, habits.mistake.wrong)
    thought = f"{quote_task(brief)}\nI use {name_model(recipe, brief.kind)}."
    return thought, script


def quote_task(brief: Brief) -> str:
    """The lines of the task that decide how to solve it, word for word."""
    return "\n".join(brief.lines)


def after_error(brief: Brief, turns: list[Turn], habits: Habits, seed: int) -> tuple[str, str]:
    """Quote the error and write another solution; a rollout that gives up submits as things are."""
    last = turns[-1]
    error = last.observation.strip().splitlines()[-1]
    if habits.gives_up:
        return f"{error}\nI hand in what there is.", "submit"
    return write_next(brief, turns, habits, seed, f"{error}\nI write it anew.\n")


def good_scores(turns: list[Turn]) -> list[float]:
    """The validated scores that were better than the baseline, in the order of the steps."""
    seen = [t.observation for t in turns if t.action == "validate" and "(better than the baseline)" in t.observation]
    return [float(m.group(1)) for m in (re.search(r'Your score: \{"[^"]*": ([-\d.e]+)\}', o) for o in seen) if m]


def after_validate(brief: Brief, turns: list[Turn], habits: Habits, seed: int) -> tuple[str, str]:
    """Compare the score with the baseline and the best so far; try another model, go back to the best, or submit."""
    last = turns[-1].observation
    if "is missing" in last or "Invalid submission" in last:
        return after_bad_submission(brief, turns, habits, seed)
    good, done, score = good_scores(turns), attempts(turns), last.strip().splitlines()[-1]
    if done == 0:
        return write_next(brief, turns, habits, seed, "That is the score to beat.\n")
    if "(better than the baseline)" in last:
        if len(good) > 1 and is_worse(good[-1], max_by(good[:-1], brief), brief):
            return f"{score}\nThat is worse than my earlier submission. I go back to it.", "cp best.csv submission.csv"
        if len(good) >= habits.wanted or done >= 4:
            return f"{score}\nI submit.", "submit"
        return write_next(brief, turns, habits, seed, f"{score}\nI keep it and try another model.\n")
    if good:
        return f"{score}\nThat is worse than my earlier submission. I go back to it.", "cp best.csv submission.csv"
    if done >= 4:
        return f"{score}\nI have tried all my models. I submit.", "submit"
    return write_next(brief, turns, habits, seed, f"{score}\nI try another model.\n")


def after_bad_submission(brief: Brief, turns: list[Turn], habits: Habits, seed: int) -> tuple[str, str]:
    """Quote what is wrong with the submission and write another; a rollout that gives up submits as things are."""
    if habits.gives_up:
        return "The submission is refused. I hand in what there is.", "submit"
    return write_next(brief, turns, habits, seed, f"{turns[-1].observation.strip()}\nI write it anew.\n")


def is_worse(score: float, other: float, brief: Brief) -> bool:
    """Whether a score is worse than another, in the direction of the task's metric."""
    return score < other if brief.direction == "higher" else score > other


def max_by(scores: list[float], brief: Brief) -> float:
    """The best of the scores, in the direction of the task's metric."""
    return max(scores) if brief.direction == "higher" else min(scores)
