"""Shortcuts that give a task's labels away: one column, the order of the rows, rows that are in train and test.

Each shortcut is a predictor too simple to have learnt anything. One that comes close to a perfect score says that the
task is answered by looking, not by modelling. Nothing of a teacher's code takes part, so this runs outside the sandbox.
Not in the paper: ours, after complaints about leaking tasks in other benchmarks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from synthkit.stages.metrics import Metric, TaskKind, share_of_way

BINS = 64
NEARLY_UNIQUE = 0.95
Reason = Literal["leak_feature", "leak_id", "leak_order", "leak_duplicates"]


@dataclass(frozen=True)
class Leak:
    """A shortcut and how far it gets: 0 is the trivial score, 1 the perfect one."""

    reason: Reason
    detail: str
    way: float


@dataclass(frozen=True)
class Table:
    """A task's rows: features and labels to learn from, features and labels to predict."""

    train: pd.DataFrame
    train_labels: pd.Series
    test: pd.DataFrame
    test_labels: pd.Series
    kind: TaskKind
    trivial: object


def find_leak(table: Table, metric: Metric, threshold: float) -> Leak | None:
    """The worst shortcut that reaches the threshold; None when none does."""
    floor = score(table, metric, np.array([table.trivial] * len(table.test)))
    leaks = [Leak(reason, detail, share_of_way(score(table, metric, guess), floor, metric.perfect))
             for reason, detail, guess in try_shortcuts(table)]
    worst = max(leaks, key=lambda leak: leak.way, default=None)
    return worst if worst and worst.way >= threshold else None


def try_shortcuts(table: Table) -> Iterator[tuple[Reason, str, np.ndarray]]:
    for name in table.train.columns:
        reason: Reason = "leak_id" if looks_like_id(table.train[name]) else "leak_feature"
        detail = f"the column {name!r} alone"
        yield reason, detail, predict_from(table, table.train[name], table.test[name])
        if table.kind == "regression" and is_numeric_dtype(table.train[name]):
            yield reason, detail, interpolate_from(table, table.train[name], table.test[name])
    yield "leak_order", "the order of the rows alone", predict_from(
        table, pd.Series(np.linspace(0, 1, len(table.train))), pd.Series(np.linspace(0, 1, len(table.test))))
    yield "leak_duplicates", "rows that are in train and test", predict_from_twins(table)


def looks_like_id(values: pd.Series) -> bool:
    """Whole numbers or texts of which nearly every row has its own."""
    plain = not is_numeric_dtype(values) or bool((values.dropna() % 1 == 0).all())
    return plain and values.nunique() >= NEARLY_UNIQUE * len(values)


def predict_from(table: Table, train: pd.Series, test: pd.Series) -> np.ndarray:
    """The commonest or mean label of the training rows with the same value; numbers in bins of equally many rows."""
    if is_numeric_dtype(train) and train.nunique() > BINS:
        edges = np.unique(np.nanquantile(train.astype(float), np.linspace(0, 1, BINS + 1))[1:-1])
        train, test = (pd.Series(np.searchsorted(edges, values.astype(float))) for values in (train, test))
    return look_up(table, train.astype(str), test.astype(str))


def interpolate_from(table: Table, train: pd.Series, test: pd.Series) -> np.ndarray:
    """Between the labels of the nearest values: near perfect for the label in another unit, poor for what is noisy."""
    known = train.notna().to_numpy()
    points = table.train_labels[known].groupby(train[known].astype(float).to_numpy()).mean()
    if points.empty:
        return np.full(len(test), float(table.trivial))
    guess = np.interp(test.astype(float), points.index.to_numpy(), points.to_numpy())
    return np.where(test.isna(), float(table.trivial), guess)


def predict_from_twins(table: Table) -> np.ndarray:
    """The label of the training rows that are the same in every column."""
    return look_up(table, *(pd.util.hash_pandas_object(frame.astype(str), index=False)
                            for frame in (table.train, table.test)))


def look_up(table: Table, train_keys: pd.Series, test_keys: pd.Series) -> np.ndarray:
    """What the training rows with a test row's key say of its label; the trivial answer where there are none."""
    codes, keys = pd.factorize(train_keys, use_na_sentinel=False)
    wanted = keys.get_indexer(test_keys)
    if table.kind == "regression":
        sums = np.bincount(codes, weights=table.train_labels.to_numpy(float))
        return np.where(wanted >= 0, (sums / np.bincount(codes))[wanted], float(table.trivial))
    labels, classes = pd.factorize(table.train_labels.astype(str), sort=True)
    counts = np.bincount(codes * len(classes) + labels, minlength=len(keys) * len(classes))
    commonest = classes.to_numpy()[counts.reshape(len(keys), len(classes)).argmax(axis=1)]
    return np.where(wanted >= 0, commonest[wanted], str(table.trivial))


def score(table: Table, metric: Metric, guess: np.ndarray) -> float:
    labels = table.test_labels
    if table.kind == "regression":
        return float(metric.compute(labels.to_numpy(float), guess.astype(float)))
    return float(metric.compute(labels.astype(str).to_numpy(), guess.astype(str)))
