"""Texts that are too long are cut here, and control characters have one definition."""

import re

# Also what turns the direction of reading, and separators that some take for the end of a line. Terminal escapes are
# no part of it: an agent's output loses whatever a terminal would swallow (gym/sandbox), while a page for people shows
# the text behind an unfinished escape, so that nothing can be hidden from its reader (show/text.py).
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def cut_end(text: str, limit: int) -> str:
    """The beginning of a text: at most `limit` characters, the ellipsis behind a cut included."""
    return text if len(text) <= limit else text[:limit - 1] + "…"


def cut_start(text: str, limit: int) -> str:
    """The last `limit` characters of a text; where something was cut, an ellipsis stands before them, not counted."""
    return text if len(text) <= limit else "…" + text[-limit:]


def cut_middle(text: str, limit: int) -> str:
    """Head and tail of a text, `limit` characters together; a line between them says how much was left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
