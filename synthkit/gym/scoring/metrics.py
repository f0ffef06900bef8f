"""The metrics that the kit knows: how scikit-learn computes them, their direction, and what a perfect answer scores.

evaluate.py is written by the teacher; these are the second opinion that stage 04 holds it against.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from synthkit.gym.task.published import Direction

ClassificationMetric = Literal["accuracy", "balanced_accuracy", "f1_macro", "mcc", "quadratic_kappa"]
RegressionMetric = Literal["rmse", "mae", "r2", "rmsle", "mape", "medae"]
MetricName = Literal[ClassificationMetric, RegressionMetric]
TaskKind = Literal["classification", "regression"]

METRICS_BY_KIND: dict[TaskKind, list[str]] = {
    "classification": list(get_args(ClassificationMetric)),
    "regression": list(get_args(RegressionMetric)),
}


@dataclass(frozen=True)
class Metric:
    """`compute(truth, prediction)`; `perfect` is the value when both are the same."""

    compute: Callable[[np.ndarray, np.ndarray], float]
    direction: Direction
    perfect: float


def rmsle(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Root mean squared error of log(1 + y); predictions below zero count as zero."""
    return float(np.sqrt(np.mean((np.log1p(truth) - np.log1p(np.maximum(prediction, 0))) ** 2)))


def quadratic_kappa(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Cohen's kappa with quadratic weights over the classes in their sorted order."""
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(truth, prediction, weights="quadratic"))


def build_metrics() -> dict[str, Metric]:
    """Every metric by its name. scikit-learn is imported here, not with the module: it takes a second."""
    from sklearn import metrics as sk

    def macro(truth: np.ndarray, prediction: np.ndarray) -> float:
        return float(sk.f1_score(truth, prediction, average="macro", zero_division=0))

    return {
        "accuracy": Metric(sk.accuracy_score, "maximize", 1.0),
        "balanced_accuracy": Metric(sk.balanced_accuracy_score, "maximize", 1.0),
        "f1_macro": Metric(macro, "maximize", 1.0),
        "mcc": Metric(sk.matthews_corrcoef, "maximize", 1.0),
        "quadratic_kappa": Metric(quadratic_kappa, "maximize", 1.0),
        "rmse": Metric(sk.root_mean_squared_error, "minimize", 0.0),
        "mae": Metric(sk.mean_absolute_error, "minimize", 0.0),
        "r2": Metric(sk.r2_score, "maximize", 1.0),
        "rmsle": Metric(rmsle, "minimize", 0.0),
        "mape": Metric(sk.mean_absolute_percentage_error, "minimize", 0.0),
        "medae": Metric(sk.median_absolute_error, "minimize", 0.0),
    }


def direction_of(metric: MetricName) -> Direction:
    """Whether more or less of a metric is better, without loading scikit-learn as `build_metrics` does."""
    return "minimize" if metric in ("rmse", "mae", "rmsle", "mape", "medae") else "maximize"


def normalise_score(score: float, trivial: float, perfect: float) -> float:
    """A score on the scale that is 0 at the trivial score and 1 at the perfect one, whatever the direction.

    Below 0 for a score worse than the trivial one; 0 where the trivial score is the perfect one.
    """
    return (score - trivial) / (perfect - trivial) if perfect != trivial else 0.0
