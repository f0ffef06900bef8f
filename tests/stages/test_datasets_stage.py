"""Stage 02 on the embedded Hub with a teacher on loopback, and its parts: plans, splits, files, decontamination."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kits.loopback_teacher import fail, serve_teacher
from kits.stage_kit import ANSWERS, PLAN, PROPOSAL, finish_topics, open_with

from synthkit.core.errors import HubError, StageError
from synthkit.core.params import DatasetsParams
from synthkit.stages.datasets import stage as datasets
from synthkit.stages.datasets.column_summary import describe_columns, sample_rows
from synthkit.stages.datasets.contamination import Benchmark, measure_overlap
from synthkit.stages.datasets.forms import TaskPlan
from synthkit.stages.datasets.proposing import open_proposing
from synthkit.stages.datasets.splits import split_frame
from synthkit.stages.datasets.table import apply_plan, check_plan, clean_frame
from synthkit.stages.datasets.task_data import write_files

SMALL = DatasetsParams(max_train_rows=100, max_test_rows=40)


def make_plan(**values: Any) -> TaskPlan:
    base = {"target": "y", "task_kind": "regression", "metric": "mae", "features": ["a", "g"], "split": "random",
            "group_or_time": None, "title": "A title", "description": "What a row is."}
    return TaskPlan(**(base | values))


def make_frame(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=n), "g": np.arange(n) // 10, "y": rng.normal(size=n).cumsum(),
                         "c": np.where(np.arange(n) % 10 == 0, "rare", "common")})


def refused(frame: pd.DataFrame, plan: TaskPlan) -> str:
    with pytest.raises(HubError) as caught:
        check_plan(apply_plan(frame, plan), plan, SMALL)
    return caught.value.reason


def test_plans_are_refused_with_typed_reasons() -> None:
    frame = make_frame().assign(same=1, unique=[f"u{k}" for k in range(200)], negative=-1.5 - np.arange(200))
    assert refused(frame, make_plan(target="absent")) == "no_usable_target"
    assert refused(frame, make_plan(target="c")) == "no_usable_target"
    assert refused(frame, make_plan(target="same")) == "target_constant"
    assert refused(frame, make_plan(target="unique", task_kind="classification", metric="mcc")) == "target_unique"
    assert refused(frame, make_plan(target="c", task_kind="classification", metric="mae")) == "unfit_metric"
    assert refused(frame, make_plan(target="negative", metric="rmsle")) == "unfit_metric"
    assert refused(frame, make_plan(split="time", group_or_time="absent")) == "no_usable_split"
    assert refused(frame.head(20), make_plan()) == "too_small"
    with pytest.raises(HubError) as caught:
        split_frame(frame, make_plan(features=["y", "absent"]), SMALL, 0)
    assert caught.value.reason == "no_features"


def test_a_context_leaves_no_thread_behind(tmp_path: Path) -> None:
    with serve_teacher(ANSWERS) as teacher:
        finish_topics(tmp_path, teacher, 1)
        stage = open_with("02_datasets", tmp_path, teacher, benchmark="none")
        before = set(threading.enumerate())
        with open_proposing(stage) as context:
            assert context.tables.submit(threading.current_thread).result() not in before
        assert not [thread for thread in threading.enumerate() if thread not in before and "Pool" in thread.name]


def test_a_near_duplicate_that_was_owed_ends_as_if_it_had_come_in_time(tmp_path: Path) -> None:
    """Which of three tasks on one dataset is kept depends on all three, also when the first comes last."""
    def fail_first(messages: list[dict[str, str]]) -> Any:
        return fail(503) if "Flowers 1" in json.dumps(messages) and not calm else ANSWERS["DatasetProposal"](messages)

    with serve_teacher(ANSWERS | {"DatasetProposal": fail_first}) as teacher:
        results = []
        for name in ("whole", "held up"):
            run_dir, calm = tmp_path / name, name == "whole"
            finish_topics(run_dir, teacher, 3)
            if not calm:
                with pytest.raises(StageError, match="still owes 1 of 3"):
                    datasets.run(open_with("02_datasets", run_dir, teacher, benchmark="none"))
                calm = True
            stage = open_with("02_datasets", run_dir, teacher, benchmark="none")
            datasets.run(stage)
            results.append([(stage.dir / file).read_bytes() for file in ("proposals.jsonl", "refused.jsonl")])
        assert results[0] == results[1]


@pytest.mark.parametrize("split", ["random", "stratified", "grouped", "time"])
def test_splits_are_disjoint_sized_and_the_same_for_a_seed(split: str) -> None:
    plan = make_plan(target="c", task_kind="classification", metric="mcc", split=split, group_or_time="g")
    frame = make_frame()
    train, test = split_frame(frame, plan, SMALL, seed=3)
    assert (len(train), len(test)) == (100, 40)
    assert not set(train["a"]) & set(test["a"])
    assert list(train.columns) == ["a", "g", "c"]
    again = split_frame(frame, plan, SMALL, seed=3)
    assert train.equals(again[0]) and test.equals(again[1])
    if split == "stratified":
        assert (test["c"] == "rare").sum() == 4
    if split == "grouped":
        assert not set(train["g"]) & set(test["g"])
    if split == "time":
        assert train["g"].max() <= test["g"].min()


def test_a_cap_takes_rows_of_all_groups() -> None:
    """Rows that lie group by group, as many tables do: of the first groups alone nothing could be learnt of others."""
    frame = make_frame(2000).assign(g=np.arange(2000) // 100, place=np.arange(2000))
    plan = make_plan(features=["place", "g"], split="grouped", group_or_time="g")
    train, test = split_frame(frame, plan, SMALL, seed=0)
    assert (len(train), len(test)) == (100, 40)
    assert train["g"].nunique() >= 8 and test["g"].nunique() >= 4 and not set(train["g"]) & set(test["g"])
    assert not train["place"].is_monotonic_increasing and not test["place"].is_monotonic_increasing


def test_a_group_that_holds_most_rows_is_for_training() -> None:
    frame = make_frame(400).assign(g=np.minimum(np.arange(400) // 20, 9))  # The last group has more than half of all.
    plan = make_plan(features=["a"], split="grouped", group_or_time="g")
    train, test = split_frame(frame, plan, DatasetsParams(max_train_rows=400, max_test_rows=400), seed=0)
    assert len(train) + len(test) == 400 and len(test) == 60, "three of ten groups, without the large one"


def test_a_classs_only_row_is_for_training() -> None:
    frame = make_frame(200).assign(c=["common"] * 194 + [f"only{k}" for k in range(6)])
    plan = make_plan(target="c", task_kind="classification", metric="mcc", split="stratified")
    train, test = split_frame(frame, plan, SMALL, seed=0)
    assert (len(train), len(test)) == (100, 40) and set(test["c"]) == {"common"}
    places = np.flatnonzero(train["c"] != "common")
    assert len(places) == 6 and places.min() < 90, "among the others, not behind them"


@pytest.mark.parametrize(("change", "split"), [
    ({"g": [*range(199), None]}, "grouped"), ({"g": 1}, "grouped"),
    ({"c": [str(k % 60) for k in range(200)]}, "stratified"),
])
def test_a_split_that_cannot_be_made_is_refused(change: dict[str, Any], split: str) -> None:
    """A row without a group, one group only, more classes than rows to test on."""
    plan = make_plan(target="c", task_kind="classification", metric="mcc", split=split, group_or_time="g")
    with pytest.raises(HubError) as caught:
        split_frame(make_frame().assign(**change), plan, SMALL, seed=0)
    assert caught.value.reason == "no_usable_split"


def test_no_test_label_stands_among_another_rows_past_values() -> None:
    bare = make_frame(400).assign(t=np.arange(400))
    given = bare.assign(last=bare["y"].shift(1), year=bare["y"].shift(12)).dropna()
    for frame, features in ((bare, ["t"]), (given, ["t", "last", "year"])):
        plan = make_plan(features=features, split="time", group_or_time="t")
        train, test = split_frame(frame, plan, SMALL, seed=0)
        past = test.drop(columns=["y", "t"])
        assert past.shape[1] >= 2 and len(train) == 100 and len(test) >= 25
        assert not set(test["y"]) & set(past.to_numpy().ravel())


def test_files_keep_labels_in_the_answers_only(tmp_path: Path) -> None:
    plan = make_plan(target="c", task_kind="classification", metric="mcc", split="stratified")
    write_files(tmp_path, *split_frame(make_frame(), plan, SMALL, seed=1), kind="classification")
    tables = {path.stem: pd.read_csv(path) for path in tmp_path.glob("*.csv")}
    assert list(tables["test"].columns) == ["id", "a", "g"] and list(tables["train"].columns) == ["a", "g", "c"]
    assert list(tables["answers"].columns) == list(tables["sample_submission"].columns) == ["id", "c"]
    assert set(tables["sample_submission"]["c"]) == {"common"} and set(tables["answers"]["c"]) == {"rare", "common"}


def test_what_a_task_cannot_hold_is_left_out() -> None:
    frame = pd.DataFrame({"a": [1, 2], "nested": [{"b": 1}, None], "empty": [None, None], "t": ["x", "y"]})
    assert list(clean_frame(frame).columns) == ["a", "t"]


def test_a_table_reads_as_it_was_written_or_is_refused(tmp_path: Path) -> None:
    text = pd.Series(["a\rb", 'say "x",\r\nnow', "w" * 9000, "null\x00", None] * 40)
    frame = clean_frame(make_frame().assign(text=text, when=pd.date_range("2020", periods=200)))
    plan = make_plan(features=["text", "when", "a"])
    write_files(tmp_path, *split_frame(frame, plan, SMALL, seed=1), kind="regression")
    train = pd.read_csv(tmp_path / "train.csv")
    assert len(train) == 100 and set(train["text"].dropna().str.len()) == {3, 12, 4000, 5}
    for name in ("NA", "None", ""):
        named = make_frame().replace({"c": {"common": name}})
        plan = make_plan(target="c", task_kind="classification", metric="mcc")
        with pytest.raises(HubError, match="reads as a missing one") as caught:
            write_files(tmp_path, *split_frame(named, plan, SMALL, seed=1), kind="classification")
        assert caught.value.reason == "no_usable_target"


def test_profile_shows_ranges_values_and_short_rows() -> None:
    frame = make_frame().assign(long="w" * 500)
    sample = sample_rows(frame, 3, seed=0).splitlines()
    assert len(sample) == 4 and max(map(len, sample)) < 200
    assert any(line.startswith("c: text, 2 distinct, commonest common (180), rare (20)")
               for line in describe_columns(frame))


def test_benchmark_rows_are_found_whatever_the_dataset_is_called() -> None:
    table = make_frame()[["a", "g", "c"]]
    other = make_frame(60).sample(frac=1, random_state=0).rename(columns={"a": "A "}).assign(more=1)
    assert measure_overlap(other, table) == pytest.approx(0.3)
    assert measure_overlap(other[["A "]], table) == 0
    benchmark = Benchmark(ids={"x/wine": "wine"}, tables={"wine": table})
    with pytest.raises(HubError, match="benchmark task wine"):
        benchmark.check_rows(other)
    with pytest.raises(HubError):
        benchmark.check_id("X/Wine")
    with pytest.raises(HubError, match="mirror"):
        benchmark.check_id("somebody/WINE_")
    benchmark.check_id("x/wine-quality")


def name_dataset(messages: list[dict[str, str]]) -> dict[str, Any]:
    """Topic 1 has its dataset, 2 one that is misspelt, 3 one that nothing is like, 4 no proper reply, 5 the wine."""
    number = next(line for line in messages[1]["content"].splitlines() if line.startswith("Topic: "))[-1]
    named = {"1": {}, "2": {"dataset_id": "scikit-learn/irises"}, "5": {"dataset_id": "scikit-learn/wine"},
             "3": {"dataset_id": "nobody/unheard_of", "search_words": ["zzzqqq"]}}
    return PROPOSAL | named[number] if number in named else "no idea"


def test_stage_keeps_refuses_and_resumes(tmp_path: Path) -> None:
    with serve_teacher(ANSWERS | {"DatasetProposal": name_dataset}) as teacher:
        finish_topics(tmp_path, teacher, 5)
        stage = open_with("02_datasets", tmp_path, teacher, max_train_rows=50, max_near_duplicates=2)
        kept = datasets.run(stage)
        datasets.check(stage)
        whole = {p: p.read_bytes() for p in sorted(stage.dir.rglob("*.*")) if p.suffix in (".csv", ".jsonl")}
        (stage.dir / "proposals.jsonl").write_bytes(b"")
        datasets.run(open_with("02_datasets", tmp_path, teacher, max_train_rows=50, max_near_duplicates=2))
        assert {path: path.read_bytes() for path in whole} == whole
        plan = next(messages for form, messages in teacher.asked if form == "TaskPlan")[-1]["content"]
    assert [(row.task_id, row.near_match, row.n_train, row.n_test) for row in kept] == [
        ("iris-species-t001", False, 50, 45), ("iris-species-t002", True, 50, 45)]
    assert len(kept[0].dataset.revision) == 40 and kept[0].features == PLAN["features"]
    assert datasets.funnel(stage) == (5, 2, {"bad_reply": 1, "benchmark": 1, "not_found": 1}, {})
    assert "Dataset: scikit-learn/iris" in plan and "species: text, 3 distinct" in plan
    record = datasets.finish(stage)
    assert record["metrics"] == {"datasets": 1, "near_matches": 1} and not (stage.dir / "downloads").exists()


def test_check_finds_a_record_without_its_rows(tmp_path: Path) -> None:
    with serve_teacher(ANSWERS) as teacher:
        finish_topics(tmp_path, teacher)
        stage = open_with("02_datasets", tmp_path, teacher, benchmark="none")
        datasets.run(stage)
    row = json.loads((stage.dir / "proposals.jsonl").read_text())
    test = stage.dir / "data" / row["task_id"] / "test.csv"
    test.write_text("\n".join(test.read_text().splitlines()[:-1]))
    with pytest.raises(StageError, match="do not agree"):
        datasets.check(stage)


def test_a_task_that_says_what_another_says_is_dropped_before_it_costs_more(tmp_path: Path) -> None:
    with serve_teacher(ANSWERS) as teacher:
        finish_topics(tmp_path, teacher, 3)
        stage = open_with("02_datasets", tmp_path, teacher, benchmark="none")
        first = datasets.run(stage)
        assert [row.task_id for row in first] == ["iris-species-t001"]
        assert datasets.funnel(stage) == (3, 1, {"near_duplicate": 2}, {})
        assert datasets.run(stage) == first
    repeated = first[0].model_copy(update={"task_id": "other", "metric": "f1_macro"})
    assert datasets.drop_near_duplicates([first[0], repeated], 1) == ([first[0], repeated], [])
    other = first[0].model_copy(update={"description": "Say which of the insects visits a flower of this size."})
    other = other.model_copy(update={"title": "Visitors", "features": ["x"]})
    assert datasets.drop_near_duplicates([first[0], other], 1) == ([first[0], other], [])
