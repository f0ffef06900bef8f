"""A dataset's table made fit for a task: cleaned, cut down to what a plan names, and checked against the plan.

Targets and class labels stay as they are in the source.
"""

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from synthkit.core.errors import HubError
from synthkit.core.params import DatasetsParams
from synthkit.gym.scoring.metrics import METRICS_BY_KIND
from synthkit.stages.common.images import holds_pictures
from synthkit.stages.datasets.forms import TaskPlan

ID = "id"
MAX_CLASSES = 50
MAX_TEXT = 4000  # characters of a cell
ROW_ENDS = r"\r\n?|\x00"
NEARLY_ALL = 0.98  # A target that has one value in so many rows is constant.


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
    """Whether a column's cells are plain values or pictures, and not lists or records."""
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
    """The plan's features that the table has, without the target and the id, each once."""
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
    """Raises HubError when there are too many classes, or when they lack the order that the metric needs."""
    classes = target.nunique()
    if classes > min(MAX_CLASSES, len(target) / 5):
        raise HubError("target_unique", f"{plan.target} has {classes} classes in {len(target)} rows")
    if plan.metric == "quadratic_kappa" and not is_numeric_dtype(target):
        raise HubError("unfit_metric", f"{plan.metric} needs classes with an order, and {plan.target} is text")


def check_numbers(target: pd.Series, plan: TaskPlan) -> None:
    """Raises HubError for a target that is no number, or that the metric is not defined for."""
    if not is_numeric_dtype(target) or is_bool_dtype(target):
        raise HubError("no_usable_target", f"{plan.target} is not a number")
    if plan.metric == "rmsle" and target.min() < 0:
        raise HubError("unfit_metric", f"rmsle needs {plan.target} to be zero or more")
    if plan.metric == "mape" and (target == 0).any():
        raise HubError("unfit_metric", f"mape is not defined where {plan.target} is zero")
