"""Untrusted text on its way to a page: cleaned, cut and escaped. Whatever a model wrote passes through here."""

import re
from html import escape

# CSI sequences, OSC strings (titles, links) with either terminator, other escapes of two characters.
_TERMINAL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]|\x9b[0-?]*[ -/]*[@-~]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean_text(text: str) -> str:
    """The text without terminal escapes, control characters and marks that turn the reading direction.

    Line ends become plain newlines; what a carriage return would have overwritten stays readable.
    """
    text = _TERMINAL.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text)


def cut_text(text: str, limit: int = 6000) -> str:
    """The text, or head and tail of one over `limit` characters, with a line that says how much is left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"


def escape_text(text: object, limit: int = 6000) -> str:
    """Text that is safe inside HTML, as element content or as a quoted attribute."""
    return escape(cut_text(clean_text(str(text)), limit), quote=True)
