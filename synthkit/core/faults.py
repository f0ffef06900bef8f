"""Faults that pydantic finds, as text: where, and what is wrong."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError


def write_faults(error: ValidationError, most: int, whole: str = "", longest: int | None = None) -> str:
    """The first `most` faults as 'place: message; place: message'.

    `whole` stands where a fault has no place of its own, and a place is cut to `longest` characters. The messages are
    pydantic's own. Models are asked to mend their replies with these texts, so any change in them changes the answers.
    """
    return "; ".join(f"{name_place(fault['loc'])[:longest] or whole}: {fault['msg']}"
                     for fault in error.errors()[:most])


def write_fault(place: str, fault: Mapping[str, Any]) -> str:
    """One fault for a person; of a message that a validator of the kit wrote, without pydantic's words before it."""
    return f"{place}: {fault['msg'].removeprefix('Value error, ')}"


def name_place(loc: Iterable[int | str]) -> str:
    """The place of a fault as its path: 'teacher.model', 'tasks.0'."""
    return ".".join(map(str, loc))


def suggest(name: str, known: Iterable[str]) -> str:
    """What ends the message about an unknown name: the known one that is nearest; '' when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
