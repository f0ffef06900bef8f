"""The scripted teacher's replies to the stages' forms, looked up in the library by the lines of the prompt.

No language model is at work. Chance decides three things: which of the topics that fit a cell equally well is taken,
whether an earlier topic comes again in other words (and which one), and whether a draft written anew is clean. It is
drawn from the request's seed and messages, so the same request gets the same reply. Everything else stands in the
library. Nothing is kept between requests: what was drafted and what was mended is read from the conversation.
"""

import hashlib
import json
import random
import re
from collections.abc import Callable
from typing import Any

from synthkit.offline.library import Entry, Plan, find_topic, load_library

Messages = list[dict[str, str]]

P_REWORDED = 0.12  # How often a topic that was given before comes again in other words.
P_CLEAN_RESTART = 0.5  # How often a draft written anew has none of the first one's flaws.
CELL_LINE = re.compile(r"^(Area|Modality|Task type|Difficulty): (.*)$", re.MULTILINE)


class UnknownTopic(Exception):
    """A request about something that is not in the library, or for a form that the script does not know."""


def answer_form(form: str, messages: Messages, seed: int) -> dict[str, Any]:
    """The filled-in form, by the name of its class. Raises UnknownTopic when the library has nothing to say."""
    if form not in FORMS:
        raise UnknownTopic(f"The scripted teacher knows the forms {', '.join(FORMS)}, not {form!r}.")
    return FORMS[form](messages, make_random(messages, seed))


def make_random(messages: Messages, seed: int) -> random.Random:
    """The request's own chance: a generator that starts from a hash of the seed and the whole conversation."""
    text = json.dumps([seed, *([m["role"], m["content"]] for m in messages)])
    return random.Random(hashlib.sha256(text.encode()).digest())


def answer_topics(messages: Messages, rng: random.Random) -> dict[str, Any]:
    """A topic for each cell that the library still has one for.

    It is one that is not taken yet or, now and then, one that is taken, in other words.
    """
    text = find_request(messages, "Area")
    given = {title.lower() for title in find_lines(text, "Already taken")}
    topics = []
    for cell in read_cells(text):
        entry, title = choose_topic(cell, given, rng)
        if entry is None:
            continue
        given.add(title.lower())
        topics.append({"title": title, **entry.model_dump(
            include={"summary", "area", "modality", "task_type", "difficulty"})})
    return {"topics": topics}


def read_cells(text: str) -> list[dict[str, str]]:
    """The cells of a prompt: each begins with its Area."""
    cells: list[dict[str, str]] = []
    for name, value in CELL_LINE.findall(text):
        if name == "Area":
            cells.append({})
        if cells:
            cells[-1][name.lower().replace(" ", "_")] = value.strip()
    return cells


def choose_topic(cell: dict[str, str], given: set[str], rng: random.Random) -> tuple[Entry | None, str]:
    """The topic of the cell's area that fits it best, and its title here; (None, "") when the area has none left.

    With probability P_REWORDED, where there is one, it is a topic that was given before, under its other title.
    """
    area = [entry for entry in load_library().values() if entry.area == cell["area"].lower()]
    again = [(e, e.rewording) for e in area
             if e.title.lower() in given and e.rewording and e.rewording.lower() not in given]
    if again and rng.random() < P_REWORDED:
        return rng.choice(again)
    fresh = [e for e in area if not {e.title.lower(), (e.rewording or e.title).lower()} & given]
    if not fresh:
        return None, ""
    best = max(count_matches(entry, cell) for entry in fresh)
    entry = rng.choice([e for e in fresh if count_matches(e, cell) == best])
    return entry, entry.title


def count_matches(entry: Entry, cell: dict[str, str]) -> int:
    """In how many of modality, task type and difficulty a topic fits a cell."""
    return sum(cell.get(name) == getattr(entry, name) for name in ("modality", "task_type", "difficulty"))


def answer_dataset(messages: Messages, rng: random.Random) -> dict[str, Any]:
    """The dataset that the library names for the topic, right or wrong."""
    return require_topic(messages).dataset.model_dump()


def answer_plan(messages: Messages, rng: random.Random) -> dict[str, Any]:
    """The library's plan for the topic."""
    _, plan = require_plan(messages)
    return plan.model_dump()


def answer_code(messages: Messages, rng: random.Random) -> dict[str, Any]:
    """A first draft with its flaws; a repair that mends what the evidence shows; or a draft written anew.

    The last one has, with probability P_CLEAN_RESTART, only those flaws that no evidence mends.
    """
    entry, _ = require_plan(messages)
    request = find_request(messages, "Attempt")
    if find_lines(request, "Failing gate"):
        return repair_draft(entry, read_draft(messages), request)
    attempt = int(find_lines(request, "Attempt")[0])
    clean = attempt > 1 and rng.random() < P_CLEAN_RESTART
    return entry.draft([flaw for flaw in entry.flaws if not (clean and flaw.evidence)])


def answer_solution(messages: Messages, rng: random.Random) -> dict[str, Any]:
    """The good baseline once more: a script knows no better solution."""
    entry, _ = require_plan(messages)
    return {"solution_py": entry.good_files()["baseline_py"]}


def repair_draft(entry: Entry, draft: dict[str, str] | None, request: str) -> dict[str, str]:
    """The draft without the first of its flaws that the request gives evidence of; unchanged without evidence."""
    flaws = [flaw for flaw in entry.flaws if draft is None or flaw.is_in(draft)]
    shown = [flaw for flaw in flaws if any(sign in request for sign in flaw.evidence)]
    return entry.draft([flaw for flaw in flaws if flaw not in shown[:1]])


def read_draft(messages: Messages) -> dict[str, str] | None:
    """The teacher's own last draft in this conversation; None where there is none, or none that is JSON."""
    for message in reversed(messages):
        if message["role"] == "assistant":
            try:
                draft: dict[str, str] = json.loads(message["content"])
                return draft
            except ValueError:
                return None
    return None


def require_plan(messages: Messages) -> tuple[Entry, Plan]:
    """The topic that the messages name, and its plan. Raises UnknownTopic when there is none."""
    entry = require_topic(messages)
    if entry.plan is None:
        raise UnknownTopic(f"The scripted teacher has no plan for the topic {entry.title!r}.")
    return entry, entry.plan


def require_topic(messages: Messages) -> Entry:
    """The topic that the user's first line `Topic: <title>` names. Raises UnknownTopic when there is none."""
    titles = [title for m in messages if m["role"] == "user" for title in find_lines(m["content"], "Topic")]
    entry = find_topic(titles[0]) if titles else None
    if entry is None:
        raise UnknownTopic(f"The scripted teacher's library has no topic {titles[0]!r}." if titles
                           else "The messages have no line 'Topic: <title>'.")
    return entry


def find_request(messages: Messages, name: str) -> str:
    """The user's last message that has a line of that name; later ones may hold a schema or ask for the form again.

    Raises UnknownTopic when no message has one.
    """
    for message in reversed(messages):
        if message["role"] == "user" and find_lines(message["content"], name):
            return message["content"]
    raise UnknownTopic(f"The messages have no line '{name}: …'.")


def find_lines(text: str, name: str) -> list[str]:
    """The values of all lines `<name>: <value>`."""
    return [value.strip() for value in re.findall(rf"^{re.escape(name)}: (.*)$", text, re.MULTILINE)]


FORMS: dict[str, Callable[[Messages, random.Random], dict[str, Any]]] = {
    "TopicBatch": answer_topics,
    "DatasetProposal": answer_dataset,
    "TaskPlan": answer_plan,
    "TaskCode": answer_code,
    "TaskSolution": answer_solution,
}
