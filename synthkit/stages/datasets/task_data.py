"""From a pinned dataset and a plan to the files of a task: cleaned, checked, split the same way every time, written.

Test labels go to answers.csv only. Targets and class labels stay as they are in the source.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from synthkit.core.errors import HubError
from synthkit.core.params import DatasetsParams
from synthkit.gym.scoring.metrics import METRICS_BY_KIND
from synthkit.stages.common.forms import TaskPlan
from synthkit.stages.common.images import holds_pictures, write_pictures

ID = "id"
TEST_SHARE = 0.3
MAX_CLASSES = 50
MAX_TEXT = 4000  # characters of a cell
ROW_ENDS = r"\r\n?|\x00"
NEARLY_ALL = 0.98  # A target that has one value in so many rows is constant.
LAGS = 3  # Past values given to a solver when a series has no other column.
MAX_LAG = 24  # Past values are looked for among a table's columns up to this distance.
LOOK = 40  # Rows that are looked at first for that.
MAX_BLOCK = 0.4  # At most this share of a series is set aside to choose test rows from.


def clean_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with columns that a task can hold: nested values and empty columns are left out, long texts are cut."""
    keep = [name for name in frame.columns if frame[name].notna().any() and is_flat(frame[name])]
    kept = {str(name): clean_texts(frame[name]) for name in keep}
    return pd.DataFrame(kept).reset_index(drop=True)


def clean_texts(values: pd.Series) -> pd.Series:
    """Texts of at most MAX_TEXT characters, without what a reader of CSV takes for the end of a row or of the file."""
    if is_numeric_dtype(values) or not isinstance(values.dropna().iloc[0], str):
        return values
    return values.str.slice(0, MAX_TEXT).str.replace(ROW_ENDS, "\n", regex=True)


def is_flat(values: pd.Series) -> bool:
    if values.dtype != object or holds_pictures(values):
        return True
    first = values.dropna()
    return not len(first) or not isinstance(first.iloc[0], (dict, list, tuple, set, bytes, np.ndarray))


def apply_plan(frame: pd.DataFrame, plan: TaskPlan) -> pd.DataFrame:
    """The rows with a target, and of the columns the features, the target (last) and what the split goes by."""
    if plan.target not in frame.columns or plan.target == ID:
        raise HubError("no_usable_target", f"the dataset has no column {plan.target!r} to predict")
    extra = [plan.group_or_time] if plan.group_or_time in frame.columns else []
    features = choose_features(frame, plan)
    kept = frame[list(dict.fromkeys([*features, *extra, plan.target]))]
    pictures = [name for name in features if holds_pictures(frame[name])]
    return kept.dropna(subset=[plan.target, *pictures]).reset_index(drop=True)


def choose_features(frame: pd.DataFrame, plan: TaskPlan) -> list[str]:
    return [name for name in dict.fromkeys(plan.features) if name in frame.columns and name not in (plan.target, ID)]


def check_plan(frame: pd.DataFrame, plan: TaskPlan, params: DatasetsParams) -> None:
    """Raises HubError with reason too_small, no_usable_target, target_constant, target_unique or unfit_metric."""
    target = frame[plan.target]
    if holds_pictures(target):
        raise HubError("no_usable_target", f"{plan.target} holds pictures, which nothing here can score")
    if len(frame) < params.min_rows:
        raise HubError("too_small", f"{len(frame)} rows with a target; {params.min_rows} are needed")
    if plan.metric not in METRICS_BY_KIND[plan.task_kind]:
        raise HubError("unfit_metric", f"{plan.metric} does not score {plan.task_kind}")
    if target.value_counts(normalize=True).iloc[0] > NEARLY_ALL:
        raise HubError("target_constant", f"nearly all rows have the same {plan.target}")
    if plan.task_kind == "classification":
        check_classes(target, plan)
    else:
        check_numbers(target, plan)
    if plan.split in ("grouped", "time") and plan.group_or_time not in frame.columns:
        raise HubError("no_usable_split", f"there is no column {plan.group_or_time!r} to split by")


def check_classes(target: pd.Series, plan: TaskPlan) -> None:
    classes = target.nunique()
    if classes > min(MAX_CLASSES, len(target) / 5):
        raise HubError("target_unique", f"{plan.target} has {classes} classes in {len(target)} rows")
    if plan.metric == "quadratic_kappa" and not is_numeric_dtype(target):
        raise HubError("unfit_metric", f"{plan.metric} needs classes with an order, and {plan.target} is text")


def check_numbers(target: pd.Series, plan: TaskPlan) -> None:
    if not is_numeric_dtype(target) or is_bool_dtype(target):
        raise HubError("no_usable_target", f"{plan.target} is not a number")
    if plan.metric == "rmsle" and target.min() < 0:
        raise HubError("unfit_metric", f"rmsle needs {plan.target} to be zero or more")
    if plan.metric == "mape" and (target == 0).any():
        raise HubError("unfit_metric", f"mape is not defined where {plan.target} is zero")


def split_frame(frame: pd.DataFrame, plan: TaskPlan, params: DatasetsParams,
                seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(train, test) with their features and the target: the same rows for the same seed."""
    n_test = min(params.max_test_rows, round(TEST_SHARE * len(frame)))
    n_train = min(params.max_train_rows, len(frame) - n_test)
    rng = np.random.default_rng(seed)
    if plan.split == "time":
        return split_by_time(frame, plan, n_train, n_test)
    if plan.split == "grouped":
        test, train = split_by_group(frame, plan, n_test, rng)
    elif plan.split == "stratified":
        test, train = split_by_class(frame, plan, n_test, rng)
    else:
        order = rng.permutation(len(frame))
        test, train = order[:n_test], order[n_test:]
    return keep_features(frame.iloc[train[:n_train]], plan), keep_features(frame.iloc[test], plan)


def split_by_class(frame: pd.DataFrame, plan: TaskPlan, n_test: int,
                   rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(test, train) rows with each class in the same share; a class's only row goes to train."""
    order = rng.permutation(len(frame))
    target = frame[plan.target].iloc[order]
    place = target.groupby(target, sort=False).cumcount().to_numpy()
    size = target.groupby(target, sort=False).transform("size").to_numpy()
    share = n_test / len(frame)
    in_test = np.floor((place + 1) * share + 0.5) > np.floor(place * share + 0.5)
    in_test &= size > 1
    return order[in_test][:n_test], order[~in_test]


def split_by_group(frame: pd.DataFrame, plan: TaskPlan, n_test: int,
                   rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(test, train) rows with no group in both; groups are drawn for the test set until it is full."""
    codes = pd.factorize(frame[plan.group_or_time], sort=True)[0]
    groups = rng.permutation(codes.max() + 1)
    filled = np.cumsum(np.bincount(codes)[groups])
    chosen = groups[:int(np.searchsorted(filled, n_test)) + 1]
    order = rng.permutation(len(frame))
    in_test = np.isin(codes[order], chosen)
    if in_test.all():
        raise HubError("no_usable_split", f"{plan.group_or_time} has too few groups")
    return order[in_test][:n_test], order[~in_test]


def split_by_time(frame: pd.DataFrame, plan: TaskPlan, n_train: int,
                  n_test: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train on what comes first. A series with no feature but its time gets its own past values as columns.

    Past values give labels away: a row's `value_lag_1` is the label of the row before. So the test rows are chosen
    such that no test row's label stands in another one.
    """
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
    """A column that only the split went by is no feature."""
    names = choose_features(frame, plan)
    if not names:
        raise HubError("no_features", "no column is left to predict from")
    return frame[[*names, plan.target]]


def write_files(folder: Path, train: pd.DataFrame, test: pd.DataFrame, kind: str) -> None:
    """train.csv, test.csv (with ids, without the target), answers.csv, and sample_submission.csv with a trivial answer.

    The trivial answer is the commonest class or the mean of the training rows. A picture is a file of its own, and its
    path, relative to the folder, stands in the table.
    """
    target = str(train.columns[-1])
    folder.mkdir(parents=True, exist_ok=True)
    train, test = (place_pictures(frame, folder, name) for frame, name in ((train, "train"), (test, "test")))
    ids = pd.Series(range(len(test)), name=ID)
    features = test.drop(columns=target).reset_index(drop=True)
    answers = pd.DataFrame({ID: ids, target: test[target].to_numpy()})
    tables = {
        "train": train, "test": pd.concat([ids, features], axis=1), "answers": answers,
        "sample_submission": answers.assign(**{target: trivial_answer(train[target], kind)}),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        check_reading(pd.read_csv(folder / f"{name}.csv"), table, target)


def check_reading(read: pd.DataFrame, table: pd.DataFrame, target: str) -> None:
    """A table has to be the same to a solver that reads it: a class that is called NA would be missing there."""
    if list(read.columns) != [str(name) for name in table.columns] or len(read) != len(table):
        raise HubError("no_data", "its rows or columns do not survive being written as CSV")
    if target in read.columns and read[target].isna().any():
        lost = table[target][read[target].isna().to_numpy()].iloc[0]
        raise HubError("no_usable_target", f"the value {lost!r} of {target} reads as a missing one in CSV")


def place_pictures(frame: pd.DataFrame, folder: Path, split: str) -> pd.DataFrame:
    pictures = [name for name in frame.columns if holds_pictures(frame[name])]
    if len(pictures) > 1:
        raise HubError("no_features", f"a task can show one column of pictures, not {', '.join(pictures)}")
    return frame.assign(**{name: write_pictures(frame[name], folder, split) for name in pictures})


def trivial_answer(target: pd.Series, kind: str) -> object:
    if kind == "regression":
        return float(f"{target.mean():.6g}")
    return target.mode().iloc[0]
