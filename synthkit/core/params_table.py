"""Parameters as a table for a notebook: each with its value and what it means."""

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from synthkit.core.errors import ParamError
from synthkit.core.params import StageParams
from synthkit.core.text import cut_end

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

Row = tuple[str, str, str]
MAX_VALUE_CHARS = 100


def find_section(params: StageParams, name: str) -> BaseModel:
    """The parameters below a name. Raises ParamError when it has none."""
    found = getattr(params, name, None)
    if not isinstance(found, BaseModel):
        sections = [key for key, value in params if isinstance(value, BaseModel)]
        raise ParamError(f"{name!r} holds no parameters", f"choose from {', '.join(sections)}")
    return found


def list_params(params: BaseModel) -> list[Row]:
    """(name, value as JSON, description) of each parameter; in place of a section's value, the call that shows it."""
    fields = type(params).model_fields
    return [(name, f'stage.describe("{name}")' if isinstance(value, BaseModel) else compact(value),
             fields[name].description or "") for name, value in params]


def make_table(rows: list[Row]) -> "Styler":
    """Rows as a table that a notebook shows whole: a plain one would be cut at 50 characters a cell."""
    import pandas as pd

    left = {"text-align": "left", "vertical-align": "top"}
    table = pd.DataFrame(rows, columns=["parameter", "value", "meaning"]).style.format(escape="html").hide()
    table = table.set_properties(None, **left)
    table = table.set_table_styles([{"selector": "th", "props": [("text-align", "left")]}])
    narrow = {"min-width": "13em", "max-width": "26em", "overflow-wrap": "anywhere"}
    return table.set_properties(subset=["value"], **narrow)


def compact(value: Any) -> str:
    """A parameter's value as JSON, short enough for a table's cell."""
    return cut_end(json.dumps(value, ensure_ascii=False, default=str), MAX_VALUE_CHARS)
