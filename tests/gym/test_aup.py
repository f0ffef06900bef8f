"""AUP against MLGym's published figures, on degenerate tasks, and the bootstrap of a difference."""


import numpy as np
import pandas as pd
import pytest
from kits.places import DATA

from synthkit.core.errors import RecordError
from synthkit.gym.aup import BASELINE, bootstrap_aup_difference, compute_aup


def make_scores(*rows: tuple[str, str, float], direction: str = "maximize", baseline: float = 0.5) -> pd.DataFrame:
    return pd.DataFrame([
        {"model": model, "task": task, "direction": direction, "baseline": baseline, "score_best": score,
         "score_last": score} for model, task, score in rows
    ])


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return pd.read_csv(DATA / "mlgym_runs.csv")


def test_reproduces_every_published_value(published: pd.DataFrame) -> None:
    expected = pd.read_csv(DATA / "mlgym_published_aup.csv").set_index("model")
    result = compute_aup(published)
    assert result.pool == [*sorted(set(expected.index) - {BASELINE}), BASELINE]
    assert len(result.tasks) == 13 and result.max_tau == 1.5
    for kind in ("best", "last"):
        computed = {model: round(value, 3) for model, value in result.aup[kind].items()}
        assert computed == expected[kind].to_dict()


def test_depends_on_the_pool(published: pd.DataFrame) -> None:
    weak_on_blotto = compute_aup(published[published["model"] != "llama4-17b-16"])
    assert "llama4-17b-16" not in weak_on_blotto.pool
    assert weak_on_blotto.aup["best"]["gpt-o1"] != compute_aup(published).aup["best"]["gpt-o1"]


def test_profiles_rise_to_one_within_max_tau(published: pd.DataFrame) -> None:
    result = compute_aup(published)
    assert result.tau[0] == 0 and result.tau[-1] == result.max_tau and len(result.tau) == 500
    for profile in result.profiles["best"].values():
        assert (np.diff(profile) >= 0).all() and profile[-1] == 1


def test_a_missing_model_and_an_infeasible_score_count_the_same() -> None:
    rows = [("good", "a", 0.8), ("good", "b", 0.8), ("bad", "a", 0.4)]
    result = compute_aup(make_scores(*rows, ("absent", "b", np.nan)))
    assert result.aup["best"]["bad"] == result.aup["best"]["absent"] < result.aup["best"][BASELINE]
    assert result.aup["best"]["good"] == pytest.approx(result.max_tau)


def test_negative_scores_are_infeasible_even_above_a_negative_baseline() -> None:
    result = compute_aup(make_scores(("up", "a", -0.1), ("top", "a", 0.2), baseline=-0.3))
    assert result.aup["best"]["up"] == result.aup["best"][BASELINE] < result.aup["best"]["top"]


def test_a_task_nobody_solves_is_equally_far_for_all() -> None:
    result = compute_aup(make_scores(("x", "a", -1.0), ("y", "a", np.nan), baseline=-0.5))
    assert len(set(result.aup["best"].values())) == 1 and result.max_tau > 0


@pytest.mark.parametrize(("direction", "winner", "loser"), [("maximize", 0.3, 0.0), ("minimize", 0.0, 0.3)])
def test_zero_scores_have_finite_profiles(direction: str, winner: float, loser: float) -> None:
    scores = make_scores(("w", "a", winner), ("l", "a", loser), direction=direction, baseline=loser)
    areas = compute_aup(scores).aup["best"]
    assert np.isfinite(list(areas.values())).all() and areas["w"] > areas["l"]


def test_runs_are_aggregated_in_the_metric_direction() -> None:
    rows = [("m", "a", 3.0), ("m", "a", 2.0), ("m", "a", np.nan), ("n", "a", 2.0)]
    areas = compute_aup(make_scores(*rows, direction="minimize", baseline=4.0)).aup["best"]
    assert areas["m"] == areas["n"] > areas[BASELINE]


def test_bootstrap_is_seeded_and_holds_the_value() -> None:
    rng = np.random.default_rng(1)
    tasks = [f"t{i}" for i in range(6)]
    rows = [("student", task, 0.8 + rng.normal(0, 0.02)) for task in tasks for _ in range(5)]
    rows += [("base", task, np.nan) for task in tasks for _ in range(5)]
    scores = make_scores(*rows)
    first = bootstrap_aup_difference(scores, "student", "base", resamples=200, seed=3)
    assert first == bootstrap_aup_difference(scores, "student", "base", resamples=200, seed=3)
    assert 0 < first.low <= first.value <= first.high
    equal = bootstrap_aup_difference(scores, "student", "student", resamples=20)
    assert (equal.value, equal.low, equal.high) == (0, 0, 0)


def test_says_which_column_is_missing(published: pd.DataFrame) -> None:
    with pytest.raises(RecordError, match="score_last"):
        compute_aup(published.drop(columns="score_last"))
    with pytest.raises(RecordError, match="no rows"):
        compute_aup(published.head(0))


def test_a_task_has_one_direction() -> None:
    scores = make_scores(("x", "a", 0.8), ("y", "a", 0.6), ("x", "b", 0.7))
    scores.loc[1, "direction"] = "minimize"
    with pytest.raises(RecordError, match="two .*direction"):
        compute_aup(scores)


def test_a_row_may_lack_the_baseline_that_others_have() -> None:
    rows = [("x", "a", 0.8), ("y", "a", 0.6)]
    scores = make_scores(*rows)
    scores.loc[0, "baseline"] = np.nan
    assert compute_aup(scores).aup == compute_aup(make_scores(*rows)).aup
