"""Train and test rows of a task: at random, by class, by group or by time, the same way every time.

Source: ours; the paper does not say how its tasks are split.
"""

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

from synthkit.core.errors import HubError
from synthkit.core.params import DatasetsParams
from synthkit.stages.datasets.forms import TaskPlan
from synthkit.stages.datasets.table import choose_features

TEST_SHARE = 0.3
GROUP_DRAWS = 16  # Groups differ in size, so one draw of them may be far from the share that is wanted.
LAGS = 3  # Past values given to a solver when a series has no other column.
MAX_LAG = 24  # Past values are looked for among a table's columns up to this distance.
LOOK = 40  # Rows that are looked at first for that.
MAX_BLOCK = 0.4  # At most this share of a series is set aside to choose test rows from.


def split_frame(frame: pd.DataFrame, plan: TaskPlan, params: DatasetsParams,
                seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(train, test) with their features and the target: the same rows in the same order for the same seed.

    About 30 % of the rows are for testing; the parameters cap both parts. Raises HubError with reason no_usable_split
    or no_features.
    """
    n_test = min(params.max_test_rows, round(TEST_SHARE * len(frame)))
    n_train = min(params.max_train_rows, len(frame) - n_test)
    if plan.split == "time":
        return split_by_time(frame, plan, n_train, n_test)
    if plan.split == "grouped":
        train, test = split_by_group(frame, plan, params, seed)
    elif plan.split == "stratified":
        train, test = split_by_class(frame, plan, n_train, n_test, seed)
    else:
        train, test = next(ShuffleSplit(1, train_size=n_train, test_size=n_test, random_state=seed).split(frame))
    return keep_features(frame.iloc[train], plan), keep_features(frame.iloc[test], plan)


def split_by_class(frame: pd.DataFrame, plan: TaskPlan, n_train: int, n_test: int,
                   seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train, test) rows with each class in the same share. A class's only row is for training.

    Raises HubError for more classes than either part has rows.
    """
    target = frame[plan.target]
    alone = (target.groupby(target).transform("size") == 1).to_numpy()
    rows, single = np.flatnonzero(~alone), np.flatnonzero(alone)
    splitter = StratifiedShuffleSplit(1, train_size=min(n_train, len(frame) - n_test) - len(single), test_size=n_test,
                                      random_state=seed)
    try:
        train, test = next(splitter.split(rows, target.iloc[rows].astype(str)))
    except ValueError as error:
        raise HubError("no_usable_split", f"{plan.target} has too many classes for its rows: {error}") from error
    return np.random.default_rng(seed).permutation(np.concatenate([rows[train], single])), rows[test]


def split_by_group(frame: pd.DataFrame, plan: TaskPlan, params: DatasetsParams,
                   seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train, test) rows with no group in both. Of several draws of groups the one nearest to 30 % of rows is taken."""
    groups = frame[plan.group_or_time]
    if groups.isna().any():
        raise HubError("no_usable_split", f"some rows have no {plan.group_or_time}")
    if groups.nunique() < 2:
        raise HubError("no_usable_split", f"{plan.group_or_time} has too few groups")
    draws = GroupShuffleSplit(GROUP_DRAWS, test_size=TEST_SHARE, random_state=seed).split(
        frame, groups=pd.factorize(groups, sort=True)[0])
    train, test = min(draws, key=lambda draw: abs(len(draw[1]) - TEST_SHARE * len(frame)))
    # The splitter gives rows in the order of the table: a cut must not take the groups that stand first.
    rng = np.random.default_rng(seed)
    return rng.permutation(train)[:params.max_train_rows], rng.permutation(test)[:params.max_test_rows]


def split_by_time(frame: pd.DataFrame, plan: TaskPlan, n_train: int,
                  n_test: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train on what comes first. A series with no feature but its time gets its own past values as columns.

    Past values give labels away: a row's `value_lag_1` is the label of the row before. So the test rows are chosen
    such that no test row's label stands in another one.
    """
    assert plan.group_or_time is not None, "check_plan has seen the column"
    ordered = frame.sort_values(plan.group_or_time, kind="stable").reset_index(drop=True)
    names = choose_features(frame, plan)
    if not set(names) - {plan.group_or_time}:
        names += [f"{plan.target}_lag_{lag}" for lag in range(1, LAGS + 1)]
        for lag in range(1, LAGS + 1):
            ordered[f"{plan.target}_lag_{lag}"] = ordered[plan.target].shift(lag)
        ordered = ordered.iloc[LAGS:].reset_index(drop=True)
    lags = find_lags(ordered, names, plan.target)
    block = min(n_test * (len(lags) + 1), round(MAX_BLOCK * len(ordered)))
    start = len(ordered) - block
    columns = [*names, plan.target]
    return ordered[columns].iloc[:start].tail(n_train), ordered[columns].iloc[choose_apart(start, len(ordered), lags)]


def find_lags(ordered: pd.DataFrame, names: list[str], target: str) -> set[int]:
    """The distances at which a column repeats the target of an earlier row."""
    if not is_numeric_dtype(ordered[target]):
        return set()
    values = ordered[target].to_numpy(float)
    columns = [ordered[name].to_numpy(float) for name in names if is_numeric_dtype(ordered[name])]
    return {lag for lag in range(1, MAX_LAG + 1) if any(repeats(column[lag:], values[:-lag]) for column in columns)}


def repeats(column: np.ndarray, past: np.ndarray) -> bool:
    """Whether a column has, in at least 95 % of the known rows, the past values of the target."""
    known = ~np.isnan(past) & ~np.isnan(column)
    column, past = column[known], past[known]
    # Most columns are told from the first rows.
    if not len(past) or np.isclose(column[:LOOK], past[:LOOK]).mean() < 0.5:
        return False
    return len(np.unique(past)) > 2 and bool(np.isclose(column, past).mean() > 0.95)


def choose_apart(start: int, end: int, lags: set[int]) -> list[int]:
    """Positions of [start, end) of which no two are one of the distances apart, the latest first in the choice."""
    chosen: set[int] = set()
    for at in range(end - 1, start - 1, -1):
        if not any(at + lag in chosen for lag in lags):
            chosen.add(at)
    return sorted(chosen)


def keep_features(frame: pd.DataFrame, plan: TaskPlan) -> pd.DataFrame:
    """The features and the target, without a column that was only used to split. Raises HubError no_features."""
    names = choose_features(frame, plan)
    if not names:
        raise HubError("no_features", "no column is left to predict from")
    return frame[[*names, plan.target]]
