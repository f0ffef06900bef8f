"""Untrusted text on its way to a page: cleaned, cut and escaped. Whatever a model wrote passes through here."""

import re
from html import escape

from synthkit.core.text import CONTROLS, cut_middle

# CSI sequences, OSC strings (titles, links) with either terminator, other escapes of two characters.
_TERMINAL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]|\x9b[0-?]*[ -/]*[@-~]")


def clean_text(text: str) -> str:
    """The text without terminal escapes, control characters and marks that turn the reading direction.

    Line ends become plain newlines; what a carriage return would have overwritten stays readable.
    """
    text = _TERMINAL.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return CONTROLS.sub("", text)


def escape_text(text: object, limit: int = 6000) -> str:
    """Text that is safe inside HTML, as element content or as a quoted attribute."""
    return escape(cut_middle(clean_text(str(text)), limit), quote=True)
