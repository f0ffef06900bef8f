"""Section 2 of the MLGym contract: AUP step by step on pools that can be worked out by hand, and its consequences."""

import math

import numpy as np
import pandas as pd
import pytest
from kits.places import DATA

from synthkit.gym.aup import BASELINE, Aup, compute_aup

RUNS = DATA / "mlgym_runs.csv"
STEP = 1 / 499
NAN = math.nan


def measure(scores: dict[str, float | list[float]], *, baseline: float = 0.5, direction: str = "maximize",
            task: str = "t") -> pd.DataFrame:
    """One task's rows: a score per run and model, best and last alike."""
    rows = [(model, run) for model, runs in scores.items() for run in np.atleast_1d(runs)]
    table = pd.DataFrame(rows, columns=["model", "score_best"])
    return table.assign(task=task, direction=direction, baseline=baseline, score_last=table["score_best"])


def areas(*tables: pd.DataFrame) -> dict[str, float]:
    """The AUP of every model for best attempts, on the tasks of these tables."""
    return compute_aup(pd.concat(tables)).aup["best"]


def expect(result: Aup, model: str, *ratios: float) -> bool:
    """Whether a model's area is that of a profile which rises by a share at the log10 of each ratio."""
    rises = [result.max_tau - math.log10(ratio) for ratio in ratios]
    return result.aup["best"][model] == pytest.approx(sum(rises) / len(rises), abs=result.max_tau * STEP * 1.01)


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return pd.read_csv(RUNS)


def test_2_one_task_by_hand_maximised() -> None:
    result = compute_aup(measure({"top": 0.8, "mid": 0.6, "bad": 0.4}))
    # The worst feasible is the baseline: 0.8 / 0.5. Infeasible: 5 % beyond. Limit: ceil(1.68) = 2, log10 0.301 -> 0.4.
    assert result.max_tau == 0.4
    assert expect(result, "top", 1) and expect(result, "mid", 0.8 / 0.6)
    assert expect(result, BASELINE, 1.6) and expect(result, "bad", 1.6 * 1.05)


def test_2_one_task_by_hand_minimised() -> None:
    result = compute_aup(measure({"top": 2.0, "mid": 3.0, "bad": 21.0}, baseline=20.0, direction="minimize"))
    # ceil(10 * 1.05) = 11, log10 1.0414 -> 1.1.
    assert result.max_tau == 1.1
    assert expect(result, "top", 1) and expect(result, "mid", 1.5)
    assert expect(result, BASELINE, 10) and expect(result, "bad", 10.5)


def test_2_a_profile_is_the_share_of_tasks_and_the_limit_that_of_the_farthest() -> None:
    tables = [measure({"a": 0.8, "b": 0.5}, task="one"), measure({"a": 1.0, "b": 20.0}, baseline=1.0, task="two")]
    result = compute_aup(pd.concat(tables))
    # Task two: 20 * 1.05 = 21, log10 1.32 -> 1.4.
    assert result.max_tau == 1.4
    assert expect(result, "a", 1, 20) and expect(result, "b", 1.6, 1) and expect(result, BASELINE, 1.6, 20)
    assert result.profiles["best"]["b"][0] == 0.5


def test_2_the_area_is_the_left_riemann_sum_of_500_points() -> None:
    result = compute_aup(measure({"top": 0.8, "mid": 0.6}))
    grid = np.linspace(0, 0.4, 500)
    assert np.array_equal(result.tau, grid)
    # A profile of one rise counts the cells whose left edge has reached it.
    assert result.aup["best"]["mid"] == pytest.approx(np.sum(grid[:-1] >= math.log10(0.8 / 0.6)) * grid[1])


def test_2_the_limit_is_over_best_and_last_together() -> None:
    table = measure({"top": 0.8}).assign(score_last=50.0)
    result = compute_aup(table)
    # Last: 50 / 0.5 * 1.05 = 105, log10 2.02 -> 2.1, for the best attempts too.
    assert result.max_tau == 2.1 and result.tau[-1] == 2.1 and expect(result, "top", 1)


@pytest.mark.parametrize(("direction", "baseline", "runs", "alone"), [("maximize", 0.5, [0.6, 0.9, NAN, 0.7], 0.9),
                                                                    ("minimize", 9.0, [6.0, 2.0, NAN, 7.0], 2.0)])
def test_2_of_a_models_runs_the_best_counts_and_those_without_a_score_do_not(
        direction: str, baseline: float, runs: list[float], alone: float) -> None:
    other = {"other": 5.0 if direction == "minimize" else 0.7}
    options = {"direction": direction, "baseline": baseline}
    assert areas(measure({"m": runs} | other, **options)) == areas(measure({"m": alone} | other, **options))


def test_2_last_of_a_minimised_metric_is_the_smallest_over_the_runs(published: pd.DataFrame) -> None:
    # The contract says "max over runs"; MLGym's published table of last scores has the smallest.
    task = published[published["task"] == "3SATTime"]
    first = task.groupby("model")["score_last"].min()
    assert compute_aup(task).aup["last"][str(first.idxmin())] == pytest.approx(compute_aup(task).max_tau)


def test_2_the_baseline_of_a_task_is_the_first_that_a_run_has() -> None:
    table = measure({"a": [0.7, 0.8], "b": 0.6})
    table["baseline"] = [NAN, 0.5, 0.9]
    assert areas(table) == areas(measure({"a": [0.7, 0.8], "b": 0.6}))


@pytest.mark.parametrize("score", [NAN, -0.1, 0.49])
def test_2_missing_negative_and_worse_than_the_baseline_are_5_percent_behind_the_worst(score: float) -> None:
    result = compute_aup(measure({"top": 0.8, "x": score}))
    assert expect(result, "x", 1.68) and result.aup["best"]["x"] < result.aup["best"][BASELINE]


def test_2_as_good_as_the_baseline_is_feasible() -> None:
    result = compute_aup(measure({"top": 0.8, "same": 0.5}))
    assert result.aup["best"]["same"] == result.aup["best"][BASELINE]


def test_2_a_negative_score_is_infeasible_even_above_a_negative_baseline() -> None:
    result = compute_aup(measure({"top": 0.2, "up": -0.1}, baseline=-0.3))
    # The one feasible score is the best: everybody else is at 1.05, and the limit is ceil(1.05) = 2.
    assert result.max_tau == 0.4 and expect(result, "up", 1.05) and expect(result, BASELINE, 1.05)


def test_2_a_missing_model_does_not_make_the_limit_larger() -> None:
    assert compute_aup(measure({"top": 0.8})).max_tau == compute_aup(measure({"top": 0.8, "none": NAN})).max_tau


@pytest.mark.parametrize("scores", [{"x": NAN}, {"x": -1.0, "y": NAN}, {"x": -1.0, "y": -2.0}])
def test_2_differs_a_task_that_nobody_solves_counts_alike_for_all(scores: dict[str, float]) -> None:
    # MLGym raises a ValueError.
    result = compute_aup(measure(scores, baseline=-0.5))
    assert all(expect(result, model, 1.05) for model in (*scores, BASELINE))


@pytest.mark.parametrize(("direction", "baseline", "best", "zero_is"), [
    ("maximize", 0.0, 0.3, "worst"), ("minimize", 0.3, 0.0, "best"), ("maximize", 0.0, 0.0, "best"),
])
def test_2_differs_a_feasible_zero_is_no_division_by_zero(direction: str, baseline: float, best: float,
                                                          zero_is: str) -> None:
    # MLGym raises a ZeroDivisionError; a ratio without a finite value counts as infeasible here.
    result = compute_aup(measure({"m": best, "zero": 0.0}, baseline=baseline, direction=direction))
    assert math.isfinite(result.max_tau) and expect(result, "m", 1)
    assert expect(result, "zero", 1 if zero_is == "best" else 1.05)


def test_2_the_set_of_models_decides(published: pd.DataFrame) -> None:
    whole = compute_aup(published)
    assert (whole.max_tau, round(whole.aup["best"]["gpt-o1"], 3)) == (1.5, 1.423)
    without = {model: compute_aup(published[published["model"] != model]).max_tau
               for model in ("claude-35-sonnet-new", "llama4-17b-16")}
    assert without == {"claude-35-sonnet-new": 1.2, "llama4-17b-16": 1.4}

    weak_on_blotto = ["deepseek-r1", "gpt4o2", "llama3-405b-tools", "llama4-17b-128", "llama4-17b-16"]
    strong = compute_aup(published[~published["model"].isin(weak_on_blotto)])
    assert (strong.max_tau, round(strong.aup["best"]["gpt-o1"], 3)) == (0.7, 0.637)


def test_2_who_fails_everything_is_hardly_behind_the_baseline(published: pd.DataFrame) -> None:
    failed = published[published["model"] == "gpt-o1"].assign(model="none", score_best=NAN, score_last=NAN)
    result = compute_aup(pd.concat([published, failed]))
    assert result.max_tau == 1.5 and round(result.aup["best"][BASELINE], 3) == 1.22
    assert round(result.aup["best"]["none"], 3) == 1.201
