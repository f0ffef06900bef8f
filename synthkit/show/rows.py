"""Rows as the stages hand them over, pydantic records or plain dicts, on their way to a table or a figure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from pydantic import BaseModel

Record = BaseModel | Mapping[str, Any]


def flatten_record(row: Record) -> dict[str, Any]:
    """A record's fields by name: a pydantic record's as JSON would hold them, a dict's as they are."""
    return row.model_dump(mode="json") if isinstance(row, BaseModel) else dict(row)


def make_frame(rows: Iterable[Record], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table of the rows with exactly these columns, a missing one empty; all columns when none are named."""
    return pd.DataFrame([flatten_record(row) for row in rows], columns=None if columns is None else list(columns))
