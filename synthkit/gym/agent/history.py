"""What of a conversation the model is shown: all of it, or MLGym's shortened forms, chosen by name.

Whatever the form, the system message, the task and all of the model's own replies stay.
"""

import re
from collections.abc import Callable, Iterator

from synthkit.core.errors import ParamError

Messages = list[dict[str, str]]
History = Callable[[Messages], Messages]

LAST = re.compile(r"last([1-9]\d*)")
# A file window as the editor prints it (guest_editor.py), and the gap that a long observation is cut with
# (observations.py): behind a gap the rest of a line may stand.
HEAD = re.compile(r"\[File: (.+) \((\d+) lines total\)\]")
REST = re.compile(r"\d+:|\(\d+ more lines (?:above|below)\)$")
GAP = re.compile(r"\[\.\.\. \d+ characters left out \.\.\.\]")


def choose_history(name: str) -> History:
    """The history processor of a name: 'default', 'last<N>' for any N from 1 on, or 'closed_window'.

    Raises ParamError for any other name. Source: MLGym's agent/history_processors.py; its own default is `last5`.
    """
    if name == "default":
        return keep_all
    if name == "closed_window":
        return close_windows
    if found := LAST.fullmatch(name):
        return lambda messages: keep_last(messages, int(found[1]))
    raise ParamError(f"there is no history {name!r}",
                     "take 'default', 'closed_window', or 'last<N>' with N from 1 on, such as 'last5'")


def keep_all(messages: Messages) -> Messages:
    """The whole conversation."""
    return messages


def keep_last(messages: Messages, count: int) -> Messages:
    """The task and the last `count` observations stay; each older one becomes a line that says how long it was."""
    old = set(list_observations(messages)[:-count])
    return [shorten(message) if at in old else message for at, message in enumerate(messages)]


def list_observations(messages: Messages) -> list[int]:
    """Where the observations stand: the user's messages after the first, which is the task."""
    return [at for at, message in enumerate(messages) if message["role"] == "user"][1:]


def shorten(message: dict[str, str]) -> dict[str, str]:
    """A message with one line in place of its content, in MLGym's words, that counts the lines left out."""
    lines = len(message["content"].splitlines())
    return message | {"content": f"Old output omitted ({lines} lines)"}


def close_windows(messages: Messages) -> Messages:
    """The windows on a file stay in the latest observation that shows one; elsewhere a line stands for each."""
    shown = list(messages)
    later: set[str] = set()
    for at in reversed(list_observations(messages)):
        lines = messages[at]["content"].split("\n")
        windows = list(find_windows(lines))
        kept = close_some(lines, [window for window in windows if window[2] in later])
        shown[at] = messages[at] | {"content": "\n".join(kept)}
        later |= {path for _, _, path in windows}
    return shown


def find_windows(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """(first line, line after the last one, path) of each file window in an observation."""
    at = 0
    while at < len(lines):
        head, start = HEAD.fullmatch(lines[at]), at
        at += 1
        if not head:
            continue
        while at < len(lines) and (REST.match(lines[at]) or GAP.fullmatch(lines[at]) or GAP.fullmatch(lines[at - 1])):
            at += 1
        yield start, at, head[1]


def close_some(lines: list[str], windows: list[tuple[int, int, str]]) -> list[str]:
    """The lines of an observation with one line in place of each window (start, end, path), in their order."""
    kept, done = [], 0
    for start, end, path in windows:
        kept += [*lines[done:start], f"(an older view of {path} stood here: {end - start} lines left out)"]
        done = end
    return kept + lines[done:]
