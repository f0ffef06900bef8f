"""Shortcuts that give a task's labels away: one column, the order of the rows, rows that are in train and test.

Each shortcut is a predictor too simple to have learnt anything. One that comes close to a perfect score says that the
task is answered by looking, not by modelling. Nothing of a teacher's code takes part, so this runs outside the sandbox.
Not in the paper: ours, after complaints about leaking tasks in other benchmarks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from synthkit.gym.scoring.metrics import Metric, TaskKind, normalise_score

BINS = 64
NEARLY_UNIQUE = 0.95
Reason = Literal["leak_feature", "leak_id", "leak_order", "leak_duplicates"]


@dataclass(frozen=True)
class Leak:
    """A shortcut and what it scores: 0 is the trivial score, 1 the perfect one."""

    reason: Reason
    detail: str
    normalised_score: float


@dataclass(frozen=True)
class Table:
    """A task's rows: features and labels to learn from, features and labels to predict, and the trivial label."""

    train: pd.DataFrame
    train_labels: pd.Series
    test: pd.DataFrame
    test_labels: pd.Series
    kind: TaskKind
    trivial: Any


@dataclass(frozen=True)
class Labels:
    """A table's labels as numbers: those of a regression, or the classes by their place in sorted order."""

    train: np.ndarray
    test: np.ndarray
    trivial: float
    classes: int | None


def find_leak(table: Table, metric: Metric, threshold: float) -> Leak | None:
    """The worst shortcut that reaches the threshold; None when none does."""
    labels = encode_labels(table)
    floor = metric.compute(labels.test, np.full(len(labels.test), labels.trivial))
    leaks = [Leak(reason, detail, normalise_score(metric.compute(labels.test, guess), floor, metric.perfect))
             for reason, detail, guess in try_shortcuts(table, labels)]
    worst = max(leaks, key=lambda leak: leak.normalised_score, default=None)
    return worst if worst and worst.normalised_score >= threshold else None


def encode_labels(table: Table) -> Labels:
    """The labels as numbers, the classes of train and test numbered alike."""
    n = len(table.train_labels)
    if table.kind == "regression":
        train, test = (labels.to_numpy(float) for labels in (table.train_labels, table.test_labels))
        return Labels(train, test, float(table.trivial), None)
    every = pd.concat([table.train_labels, table.test_labels, pd.Series([table.trivial])])
    codes, classes = pd.factorize(every if is_numeric_dtype(every) else every.astype(str), sort=True)
    return Labels(codes[:n], codes[n:-1], codes[-1], len(classes))


def try_shortcuts(table: Table, labels: Labels) -> Iterator[tuple[Reason, str, np.ndarray]]:
    """Every shortcut in turn: its reason, what it is in words, and what it predicts for the test rows."""
    keys = []
    for name in table.train.columns:
        train, test = table.train[name], table.test[name]
        reason: Reason = "leak_id" if looks_like_id(train) else "leak_feature"
        detail = f"the column {name!r} alone"
        keys.append(encode_column(train, test))
        yield reason, detail, look_up(labels, *(keys[-1] if is_short(train) else cut_to_bins(train, test)))
        if table.kind == "regression" and is_numeric_dtype(train):
            yield reason, detail, interpolate_from(labels, train, test)
    places = (pd.Series(np.linspace(0, 1, len(rows))) for rows in (table.train, table.test))
    yield "leak_order", "the order of the rows alone", look_up(labels, *cut_to_bins(*places))
    yield "leak_duplicates", "rows that are in train and test", look_up(labels, *encode_rows(keys))


def looks_like_id(values: pd.Series) -> bool:
    """Whole numbers or texts of which nearly every row has its own."""
    plain = not is_numeric_dtype(values) or bool((values.dropna() % 1 == 0).all())
    return plain and values.nunique() >= NEARLY_UNIQUE * len(values)


def is_short(values: pd.Series) -> bool:
    """Whether a column has so few values that each can be looked up."""
    return not is_numeric_dtype(values) or values.nunique() <= BINS


def encode_column(train: pd.Series, test: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Values as numbers from 0, the same for the same value; what is missing is a value like others."""
    codes, _ = pd.factorize(pd.concat([train, test]), use_na_sentinel=False)
    return codes[:len(train)], codes[len(train):]


def cut_to_bins(train: pd.Series, test: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in bins of equally many training rows."""
    edges = np.unique(np.nanquantile(train.astype(float), np.linspace(0, 1, BINS + 1))[1:-1])
    return np.searchsorted(edges, train.astype(float)), np.searchsorted(edges, test.astype(float))


def encode_rows(keys: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """A number for each distinct row."""
    n = len(keys[0][0])
    rows = np.zeros(n + len(keys[0][1]), np.int64)
    for train, test in keys:
        column = np.concatenate([train, test])
        rows, _ = pd.factorize(rows * (column.max() + 1) + column)
    return rows[:n], rows[n:]


def interpolate_from(labels: Labels, train: pd.Series, test: pd.Series) -> np.ndarray:
    """Between the labels of the nearest values: near perfect for the label in another unit, poor for what is noisy."""
    known = train.notna().to_numpy()
    points = pd.Series(labels.train[known]).groupby(train[known].to_numpy(float)).mean()
    if points.empty:
        return np.full(len(test), labels.trivial)
    guess = np.interp(test.to_numpy(float), points.index.to_numpy(), points.to_numpy())
    return np.where(test.isna(), labels.trivial, guess)


def look_up(labels: Labels, train_keys: np.ndarray, test_keys: np.ndarray) -> np.ndarray:
    """The commonest or mean label of the training rows with a test row's key; the trivial one where there are none."""
    n_keys = max(train_keys.max(), test_keys.max(initial=0)) + 1
    known = np.bincount(train_keys, minlength=n_keys)
    if labels.classes is None:
        sums = np.bincount(train_keys, weights=labels.train, minlength=n_keys)
        answers = sums / np.maximum(known, 1)
    else:
        counts = np.bincount(train_keys * labels.classes + labels.train, minlength=n_keys * labels.classes)
        answers = counts.reshape(n_keys, labels.classes).argmax(axis=1)
    found: np.ndarray = np.where(known > 0, answers, labels.trivial)[test_keys]
    return found
