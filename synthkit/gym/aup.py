"""AUP: the area under a model's performance profile, exactly as MLGym computes it, and how sure a difference is.

A profile tells for each distance tau the share of tasks on which a model comes within that factor of the pool's best.
AUP is its area, in units of log10(tau), so it has a meaning only beside its pool of models and `max_tau`. MLGym's
published values are reproduced to their last digit (tests/gym/test_aup.py).

MLGym crashes on two kinds of task; here a task that nobody solves counts as equally far for everybody, and a score
whose ratio to the best has no finite value (a zero beside non-zero scores) counts as infeasible.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from synthkit.core.errors import RecordError

BASELINE = "baseline"
PENALTY = 1.05
GRID = 500
COLUMNS = ("model", "task", "direction", "baseline", "score_best", "score_last")
Kind = Literal["best", "last"]
KINDS: tuple[Kind, ...] = ("best", "last")


@dataclass
class Aup:
    """AUP of every model of a pool, for best and last attempts, with the profiles to plot.

    `aup[kind][model]`, `max_tau` and `tau` are in log10 units; `profiles[kind][model]` holds a share of tasks for each
    of the `tau`.
    """

    pool: list[str]
    tasks: list[str]
    max_tau: float
    tau: np.ndarray
    profiles: dict[Kind, dict[str, np.ndarray]]
    aup: dict[Kind, dict[str, float]]


@dataclass
class Interval:
    """A difference of two models' AUP with its bootstrap interval, all in log10 units."""

    value: float
    low: float
    high: float


@dataclass
class Pool:
    """Runs as arrays: `runs[kind][task][model]` holds a score per run; one baseline and direction per task.

    The baseline stands in the pool as a model with one run.
    """

    models: list[str]
    tasks: list[str]
    runs: dict[Kind, list[list[np.ndarray]]]
    baseline: np.ndarray
    minimize: np.ndarray


def compute_aup(scores: pd.DataFrame) -> Aup:
    """AUP of each model in `scores`, and of their baseline.

    One row per run: model, task, direction ('maximize' or 'minimize'), baseline (its score), score_best and score_last
    (NaN where the run has none). A model without a row on a task counts there as one that failed.
    Raises RecordError as `read_pool` does. Source: MLGym v0.1.1, scripts/evaluation/get_ranks.py.
    """
    pool = read_pool(scores)
    everything = np.arange(len(pool.tasks))
    tau, profiles = measure_profiles(pool, {kind: aggregate(pool, kind, everything) for kind in KINDS}, everything)
    areas = {kind: measure_areas(profiles[kind], tau) for kind in KINDS}
    return Aup(
        pool.models, pool.tasks, float(tau[-1]), tau,
        {kind: dict(zip(pool.models, profiles[kind].T, strict=True)) for kind in KINDS},
        {kind: dict(zip(pool.models, areas[kind].tolist(), strict=True)) for kind in KINDS},
    )


def bootstrap_aup_difference(scores: pd.DataFrame, model: str, other: str, *, kind: Kind = "best",
                             resamples: int = 1000, seed: int = 0) -> Interval:
    """AUP(model) - AUP(other) in log10 units, with its 95 % interval.

    Each resample draws tasks with replacement, and on each task every model's runs with replacement, then computes
    the whole pool anew. The interval holds the 2.5th to the 97.5th percentile. Raises RecordError as `read_pool` does,
    ValueError for a model that is not in the pool.
    """
    pool = read_pool(scores)
    first, second = pool.models.index(model), pool.models.index(other)
    areas = compute_aup(scores).aup[kind]
    rng = np.random.default_rng(seed)
    draws = [resample_difference(pool, first, second, kind, rng) for _ in range(resamples)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(areas[model] - areas[other], float(low), float(high))


def read_pool(scores: pd.DataFrame) -> Pool:
    """The rows as arrays, tasks and models sorted, the baseline last.

    The baseline of a task is the first that one of its rows has, as in MLGym, also where later rows have another.
    Raises RecordError without rows, with a column missing, and when the rows of a task name two directions.
    """
    missing = [name for name in COLUMNS if name not in scores.columns]
    if missing or scores.empty:
        raise RecordError(f"no AUP without scores: {'missing ' + ', '.join(missing) if missing else 'no rows'}",
                          f"one row per run with {', '.join(COLUMNS)}")
    tasks = sorted(scores["task"].unique())
    models = [*sorted(set(scores["model"].unique()) - {BASELINE}), BASELINE]
    by_task = scores.groupby("task")
    if (by_task["direction"].nunique() != 1).any():
        raise RecordError("a task has two metric directions", "score all runs of a task by one metric")
    minimize = (by_task["direction"].first().reindex(tasks) == "minimize").to_numpy()
    baseline = by_task["baseline"].first().reindex(tasks).to_numpy(float)
    groups = {key: group for key, group in scores.groupby(["task", "model"])}
    runs: dict[Kind, list[list[np.ndarray]]] = {}
    for kind in KINDS:
        runs[kind] = [
            [groups[task, name][f"score_{kind}"].to_numpy(float) if (task, name) in groups else np.array([])
             for name in models[:-1]] + [baseline[[at]]]
            for at, task in enumerate(tasks)
        ]
    return Pool(models, tasks, runs, baseline, minimize)


def aggregate(pool: Pool, kind: Kind, tasks: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """The score of each model on each task: the best of its runs, of resampled runs with `rng`; NaN where none."""
    table = np.full((len(tasks), len(pool.models)), np.nan)
    for row, task in enumerate(tasks):
        for column, runs in enumerate(pool.runs[kind][task]):
            drawn = runs if rng is None or len(runs) < 2 else runs[rng.integers(len(runs), size=len(runs))]
            valid = drawn[~np.isnan(drawn)]
            if len(valid):
                table[row, column] = valid.min() if pool.minimize[task] else valid.max()
    return table


def measure_ratios(table: np.ndarray, baseline: np.ndarray, minimize: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each score's factor to the task's best (1 is the best), and each task's upper limit of tau.

    Infeasible are scores below zero and scores worse than the baseline; these and missing ones get the worst
    feasible factor times 1.05.
    """
    down, floor = minimize[:, None], baseline[:, None]
    worse = np.where(down, table > floor, table < floor)
    usable = ~(table < 0) & ~worse & ~np.isnan(table)
    lowest = np.where(usable, table, np.inf).min(axis=1, keepdims=True)
    highest = np.where(usable, table, -np.inf).max(axis=1, keepdims=True)
    best = np.where(down, lowest, highest)
    with np.errstate(all="ignore"):
        ratios = np.where(table == best, 1.0, np.where(down, table / best, best / table))
    usable &= np.isfinite(ratios)
    worst = np.where(usable, ratios, 1.0).max(axis=1, keepdims=True)
    return np.where(usable, ratios, worst * PENALTY), np.ceil(worst[:, 0] * PENALTY)


def measure_profiles(pool: Pool, tables: dict[Kind, np.ndarray],
                     tasks: np.ndarray) -> tuple[np.ndarray, dict[Kind, np.ndarray]]:
    """The grid of log10(tau) that all tables share, and for each table the profiles, one column per model."""
    measured = {kind: measure_ratios(table, pool.baseline[tasks], pool.minimize[tasks])
                for kind, table in tables.items()}
    limit = max(float(limits.max()) for _, limits in measured.values())
    tau = np.linspace(0, math.ceil(math.log10(limit) * 10) / 10, GRID)
    profiles = {kind: (np.log10(ratios)[None] <= tau[:, None, None]).mean(axis=1)
                for kind, (ratios, _) in measured.items()}
    return tau, profiles


def measure_areas(profiles: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """The left Riemann sum of each profile (one column per model), in units of log10(tau)."""
    areas: np.ndarray = (profiles[:-1] * np.diff(tau)[:, None]).sum(axis=0)
    return areas


def resample_difference(pool: Pool, first: int, second: int, kind: Kind, rng: np.random.Generator) -> float:
    """The difference of two models' AUP (columns of the pool) on one resample of tasks and runs, in log10 units."""
    tasks = rng.integers(len(pool.tasks), size=len(pool.tasks))
    tau, profiles = measure_profiles(pool, {kind: aggregate(pool, kind, tasks, rng)}, tasks)
    areas = measure_areas(profiles[kind], tau)
    return float(areas[first] - areas[second])
