"""What a prompt tells about a table: one line for each column, and a few real rows."""

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from synthkit.core.text import cut_end
from synthkit.stages.common.images import describe_picture, holds_pictures

MAX_COLUMNS = 80
MAX_CELL = 80
COMMON = 6


def describe_columns(frame: pd.DataFrame) -> list[str]:
    """One line for each column, with statistics of all rows."""
    columns = [describe_column(str(name), frame[name]) for name in frame.columns[:MAX_COLUMNS]]
    if frame.shape[1] > MAX_COLUMNS:
        columns.append(f"and {frame.shape[1] - MAX_COLUMNS} more columns of the same kind")
    return columns


def sample_rows(frame: pd.DataFrame, n: int, seed: int) -> str:
    """`n` rows drawn by the seed, in their order, as CSV."""
    shown = frame.iloc[:, :MAX_COLUMNS]
    return to_short_csv(shown.sample(min(n, len(shown)), random_state=seed).sort_index())


def describe_column(name: str, values: pd.Series) -> str:
    """One line on a column: kind, distinct values, range or commonest values, and how many are missing."""
    missing = int(values.isna().sum())
    gaps = f", {missing} missing" if missing else ""
    if holds_pictures(values):
        return f"{name}: picture, the first one {describe_picture(values.dropna().iloc[0])}{gaps}"
    distinct = values.nunique()
    if is_numeric_dtype(values) and not is_bool_dtype(values):
        low, mean, high = (f"{number:.4g}" for number in (values.min(), values.mean(), values.max()))
        return f"{name}: number, {distinct} distinct, from {low} to {high}, mean {mean}{gaps}"
    counts = values.astype(str)[values.notna()].value_counts()
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:COMMON]
    listed = ", ".join(f"{cut_text(' '.join(str(value).split()))} ({n})" for value, n in common)
    return f"{name}: text, {distinct} distinct, commonest {listed}{gaps}"


def to_short_csv(rows: pd.DataFrame) -> str:
    """Rows as CSV, long cells cut."""
    return rows.map(cut_text).to_csv(index=False).strip()


def cut_text(value: object) -> object:
    """A cell of at most MAX_CELL characters; a picture becomes a word."""
    if isinstance(value, dict):
        return "(picture)"
    return cut_end(value, MAX_CELL) if isinstance(value, str) else value
