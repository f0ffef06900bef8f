"""What the embedded Hub holds: the files in entries/, checked.

They state titles, licences, meanings of columns and citations; `tables` makes the tables.
"""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

ENTRIES = Path(__file__).resolve().parent / "entries"


class Listed(BaseModel):
    """What every entry of the Hub has. Without a `licence` its card names none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    licence: str | None = None
    modality: Literal["tabular", "image", "audio"] = "tabular"
    tags: list[str] = []


class Entry(Listed):
    """One real dataset. `columns` says what each column means, `more_columns` what those mean that it does not name.

    `lags`: how many rows back lie the earlier values that each row of a series also shows. `splits`: of each split the
    first row and the one after its last.
    """

    title: str
    held_out: bool
    licence_note: str = ""
    about: str
    citation: str
    shape: Literal["plain", "dated", "yearly", "elnino", "fertility", "patches", "sunspots"] = "plain"
    target: str | None = None
    labels: dict[str, dict[int, str]] = {}
    series: str = ""
    lags: list[int] = []
    splits: dict[str, tuple[int, int | None]] = {"train": (0, None)}
    columns: dict[str, str]
    more_columns: str = ""


class StandIn(Listed):
    """An entry without data, there to be refused; `files` are the names and sizes (bytes) that it claims to have."""

    gated: Literal["manual"] | None = None
    private: bool = False
    disabled: bool = False
    files: dict[str, int] = {}


@cache
def read_catalogue() -> dict[str, Entry]:
    """The real datasets by id: those for training tasks, those that stage 02 refuses, and the benchmark's."""
    return {
        name: Entry(id=name, held_out=part == "held_out", **values)
        for part in ("training", "refused", "held_out") for name, values in read_yaml(part).items()
    }


def read_stand_ins() -> list[StandIn]:
    """The entries without data: gated, private, disabled, too large, and so on."""
    return [StandIn(id=name, **values) for name, values in read_yaml("stand_ins").items()]


def read_yaml(part: str) -> dict[str, dict[str, Any]]:
    """The fields of a file's entries, by dataset id."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load((ENTRIES / f"{part}.yaml").read_text(encoding="utf-8"))
    return entries
