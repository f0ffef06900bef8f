"""A shortcut that gives the labels away is found and named; honest tables raise no alarm."""

import numpy as np
import pandas as pd
import pytest

from synthkit.gym.scoring.metrics import TaskKind, build_metrics
from synthkit.stages.self_debug.leaks import Table, find_leak

ROWS = 400


def make_table(kind: TaskKind = "classification", **columns: np.ndarray) -> Table:
    """Labels that two columns say half of; `columns` come beside them, `label` in their place."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, ROWS))
    hidden = x + y + rng.normal(size=ROWS)
    label = columns.pop("label", hidden if kind == "regression" else (hidden > 0).astype(int))
    frame = pd.DataFrame({"x": x, "y": y, **{name: make(label) if callable(make) else make
                                              for name, make in columns.items()}})
    labels, cut = pd.Series(label), ROWS // 2
    trivial = labels.mean() if kind == "regression" else labels.mode()[0]
    return Table(frame[:cut], labels[:cut], frame[cut:], labels[cut:], kind, trivial)


def find(table: Table) -> str | None:
    leak = find_leak(table, build_metrics()["accuracy" if table.kind == "classification" else "rmse"], 0.95)
    return leak.reason if leak else None


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_an_honest_table_has_no_leak(kind: TaskKind) -> None:
    assert find(make_table(kind, noise=np.arange(ROWS))) is None


def test_a_column_that_is_the_label_under_another_name_is_a_leak() -> None:
    assert find(make_table(code=lambda label: np.where(label > 0, "yes", "no"))) == "leak_feature"
    for curve in (lambda label: 2 * label, np.exp, lambda label: -label**3):
        assert find(make_table("regression", same=curve)) == "leak_feature"


def test_an_id_that_goes_with_the_label_is_called_so() -> None:
    order = np.random.default_rng(2).permutation(ROWS)
    table = make_table(label=(order >= ROWS // 2).astype(int), number=order)
    assert find(table) == "leak_id"


def test_rows_in_the_order_of_their_labels_are_a_leak() -> None:
    label = np.tile(np.repeat(["a", "b"], ROWS // 4), 2)
    assert find(make_table(label=label)) == "leak_order"


def test_rows_that_stand_in_train_and_test_are_a_leak() -> None:
    rng = np.random.default_rng(3)
    half = rng.integers(0, 9, size=(ROWS // 2, 4))
    rows = np.vstack([half, half])
    label = np.tile(rng.permutation(np.repeat([0, 1], ROWS // 4)), 2)
    columns = {f"c{at}": rows[:, at] for at in range(4)}
    table = make_table(label=label, **columns)
    assert find(Table(table.train.drop(columns=["x", "y"]), table.train_labels, table.test.drop(columns=["x", "y"]),
                      table.test_labels, "classification", 0)) == "leak_duplicates"


def test_missing_values_and_texts_are_values_like_others() -> None:
    holes = np.where(np.arange(ROWS) % 3 == 0, np.nan, 1.0)
    assert find(make_table(holes=holes, words=np.array(["w", None] * (ROWS // 2), dtype=object))) is None
