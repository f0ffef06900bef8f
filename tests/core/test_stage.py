"""A run's folder: stages in order, resume modes, fingerprints, and completion records that come last."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkit.core import prompts
from synthkit.core.chain import load_stage_record
from synthkit.core.errors import ParamError, RecordError, StageError
from synthkit.core.ledger import Ledger
from synthkit.core.opening import open_stage
from synthkit.core.params import STAGES
from synthkit.core.paths import find_root
from synthkit.core.stage import Stage


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def open_topics(run: Path, **values: Any) -> Stage:
    return open_stage("01_topics", {"run_dir": str(run), **values})


def open_datasets(run: Path, **values: Any) -> Stage:
    return open_stage("02_datasets", {"run_dir": str(run), **values})


def print_of(run: Path, **values: Any) -> str:
    return open_topics(run, **values).fingerprint


def test_a_stage_is_fresh_then_resumed_then_finished(run: Path) -> None:
    fresh = open_topics(run, n_topics=3)
    (fresh.dir / "topics.jsonl").write_text("half\n")
    assert (fresh.resumed, fresh.finished) == (False, False)
    again = open_topics(run, n_topics=3)
    assert (again.resumed, again.finished) == (True, False)
    assert (again.dir / "topics.jsonl").read_text() == "half\n"
    again.finish(3, 2, {"similar": 1}, {"areas": 2})
    last = open_topics(run, n_topics=3)
    assert (last.resumed, last.finished) == (True, True)
    assert "complete" in last.describe().to_string()


def test_the_record_says_what_happened_and_an_unchanged_second_finish_renews_only_the_attempt(
        run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(run, 1.0)
    ledger.settle(ledger.reserve("01_topics", 0.5), 100, 20, 0.25, estimated=False, kind="paid")
    ledger.settle(ledger.reserve("02_datasets", 0.5), 1, 1, 0.1, estimated=False, kind="paid")
    monkeypatch.setenv("SYNTHKIT_ATTEMPT", "first")
    stage = open_topics(run)
    assert load_stage_record(run, "01_topics") is None
    record = stage.finish(24, 20, {"similar": 3, "bad_reply": 1})
    assert record == load_stage_record(run, "01_topics")
    assert record | {"requested": 24, "kept": 20, "tokens": 120, "usd": 0.25, "attempt": "first"} == record
    assert list(record["refused"].items()) == [("bad_reply", 1), ("similar", 3)]
    assert record["versions"]["synthkit"] and record["seconds"] >= 0
    monkeypatch.setenv("SYNTHKIT_ATTEMPT", "second")
    again = open_topics(run)
    again.started -= 100
    assert again.finish(24, 20, {"similar": 3, "bad_reply": 1}) == record | {"attempt": "second"}
    assert record["charges"]["paid"] == {"requests": 1, "tokens": 120, "usd": 0.25}


def test_a_second_finish_after_more_work_says_what_is_there_then(run: Path) -> None:
    stage = open_topics(run)
    (stage.dir / "topics.jsonl").write_text("one\n")
    first = stage.finish(3, 1, {"internal_error": 2})
    again = open_topics(run)
    assert again.finished
    again.reopen()
    assert load_stage_record(run, "01_topics") is None and not again.finished
    (stage.dir / "topics.jsonl").write_text("one\ntwo\n")
    again.started -= 50
    second = again.finish(3, 2, {"similar": 1})
    assert second == load_stage_record(run, "01_topics")
    assert (second["kept"], second["refused"]) == (2, {"similar": 1})
    assert second["results"] != first["results"] and second["seconds"] >= first["seconds"] + 50
    assert open_topics(run).resumed


def test_work_that_is_interrupted_after_a_reopening_leaves_an_unfinished_stage(run: Path) -> None:
    open_topics(run).finish(1, 1, {})
    stage = open_topics(run)
    stage.reopen()
    stage.reopen()
    again = open_topics(run)
    assert (again.resumed, again.finished) == (True, False)


def test_counts_that_do_not_add_up_are_refused(run: Path) -> None:
    stage = open_topics(run)
    for counts in ((3, 2, {}), (3, 2, {"similar": 2}), (0, 1, {})):
        with pytest.raises(StageError, match="01_topics was asked for"):
            stage.finish(*counts)
    assert load_stage_record(run, "01_topics") is None


def test_a_stage_that_owes_more_than_it_may_does_not_finish(run: Path) -> None:
    stage = open_topics(run)
    with pytest.raises(StageError, match=r"01_topics still owes 3 of 30 \(endpoint 2, node 1\)") as caught:
        stage.finish(30, 20, {"similar": 7}, owed={"node": 1, "endpoint": 2, "sandbox": 0})
    assert "run it again" in caught.value.fix and "run.allow_owed" in caught.value.fix
    assert load_stage_record(run, "01_topics") is None
    allowed = open_topics(run, allow_owed=0.1)
    assert allowed.fingerprint == stage.fingerprint and allowed.resumed
    assert allowed.finish(30, 20, {"similar": 7}, owed={"endpoint": 3})["owed"] == 3
    assert open_topics(run, allow_owed=0.1).finished
    strict = open_topics(run, allow_owed=0.05)
    assert (strict.resumed, strict.finished) == (True, False)
    with pytest.raises(StageError, match="still owes 2 of 30"):
        strict.finish(30, 21, {"similar": 7}, owed={"endpoint": 2})
    assert load_stage_record(run, "01_topics") is None
    assert strict.finish(30, 22, {"similar": 7}, owed={"endpoint": 1})["owed"] == 1


def test_opening_a_complete_stage_writes_nothing(run: Path) -> None:
    stage = open_topics(run)
    stage.finish(1, 1, {})
    before = {path: path.stat().st_mtime_ns for path in stage.dir.iterdir()}
    assert open_topics(run).finished
    assert {path: path.stat().st_mtime_ns for path in stage.dir.iterdir()} == before


def test_a_stage_needs_the_one_before(run: Path) -> None:
    with pytest.raises(StageError, match=r"02_datasets needs 01_topics(.|\n)*fix: run notebooks/01_topics\.ipynb"):
        open_datasets(run)
    topics = open_topics(run)
    with pytest.raises(StageError, match="has not finished"):
        open_datasets(run)
    assert not (run / "02_datasets").exists()
    topics.finish(1, 1, {})
    stage = open_datasets(run)
    assert stage.input("01_topics") == run / "01_topics"
    with pytest.raises(StageError, match="02_datasets needs 04_self_debug"):
        stage.input("04_self_debug")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '"done"'])
def test_a_damaged_record_is_named(run: Path, content: str) -> None:
    open_topics(run).finish(1, 1, {})
    (run / "01_topics" / "stage.json").write_text(content)
    with pytest.raises(StageError, match=r"01_topics/stage\.json is (damaged|no completion)(.|\n)*fix: delete it"):
        open_datasets(run)


def test_the_fingerprint_follows_what_changes_results_and_nothing_else(tmp_path: Path) -> None:
    base = print_of(tmp_path / "a")
    free = {"resume": "never", "allow_owed": 0.5, "teacher": {"concurrency": 2, "budget_usd": 3.0, "timeout_s": 1.0,
                                                              "key_env": "OTHER", "usd_per_mtok_in": 1.0}}
    assert print_of(tmp_path / "b") == print_of(tmp_path / "c", **free) == base
    bound: list[dict[str, Any]] = [{"seed": 1}, {"n_topics": 5}, {"similarity": 0.5}, {"teacher": {"model": "other"}},
                                   {"teacher": {"temperature": 0.5}}, {"grid": "params/other.yaml"}]
    assert len({base, *(print_of(tmp_path / f"d{n}", **values) for n, values in enumerate(bound))}) == 1 + len(bound)


def test_the_fingerprint_follows_prompts_the_grid_and_the_stage_before(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("notebooks", "params", "prompts"):
        (tmp_path / name).mkdir()
    for path in prompts.PROMPTS.glob("*.jinja"):
        (tmp_path / "prompts" / path.name).write_bytes(path.read_bytes())
    grid = tmp_path / "params" / "topic_grid.yaml"
    grid.write_text("areas: {}\n")
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(prompts, "PROMPTS", tmp_path / "prompts")
    assert find_root() == tmp_path
    first = open_topics(tmp_path / "a")
    first.finish(1, 1, {})
    below = open_datasets(tmp_path / "a").fingerprint
    (tmp_path / "prompts" / "agent_system.jinja").write_text("changed")
    assert print_of(tmp_path / "b") == first.fingerprint
    (tmp_path / "prompts" / "topics.jinja").write_text("changed")
    changed = print_of(tmp_path / "c")
    grid.write_text("areas: {more: 1}\n")
    assert len({first.fingerprint, changed, print_of(tmp_path / "d")}) == 3
    open_topics(tmp_path / "c").finish(1, 1, {})
    assert open_datasets(tmp_path / "c").fingerprint != below


def test_if_possible_moves_other_work_aside(run: Path) -> None:
    for k, seed in enumerate([1, 2, 3]):
        stage = open_topics(run, seed=seed)
        assert (stage.resumed, stage.finished) == (False, False)
        (stage.dir / "topics.jsonl").write_text(f"{seed}\n")
        stage.finish(1, 1, {})
        archived = sorted(path.name for path in run.glob("archive/*"))
        assert archived == [f"01_topics.{n}" for n in range(k)]
    (run / "archive" / "01_topics.0").rename(run / "kept")
    open_topics(run, seed=4)
    assert (run / "archive" / "01_topics.1" / "topics.jsonl").read_text() == "2\n"
    assert (run / "archive" / "01_topics.2" / "topics.jsonl").read_text() == "3\n"


def test_never_starts_anew_and_always_refuses_other_parameters(run: Path) -> None:
    open_topics(run).finish(1, 1, {})
    assert open_topics(run, resume="always").finished
    with pytest.raises(StageError, match=r"other parameters(.|\n)*if_possible"):
        open_topics(run, resume="always", seed=7)
    assert load_stage_record(run, "01_topics") is not None
    assert not open_topics(run, resume="never").finished
    assert (run / "archive" / "01_topics.0" / "stage.json").exists()


def test_work_of_unknown_origin_is_not_continued(run: Path) -> None:
    (open_topics(run).dir / "opened.json").write_text("torn {")
    assert not open_topics(run).resumed
    (run / "01_topics" / "opened.json").unlink()
    (run / "01_topics" / "topics.jsonl").write_text("?")
    assert not open_topics(run).resumed
    assert len(list(run.glob("archive/*"))) == 2


def test_every_fault_of_the_parameters_is_told_before_anything_is_made(run: Path) -> None:
    values = {"n_topics": 0, "seed": True, "resume": "sometimes", "teacher": {"modle": "x", "timeout_s": "soon"}}
    with pytest.raises(ParamError) as caught:
        open_topics(run, **values)
    cause = caught.value.cause
    assert "01_topics.n_topics: Input should be greater than or equal to 1 (got 0)" in cause
    assert "01_topics.teacher.modle: unknown parameter; did you mean 'model'?" in cause
    assert all(f"01_topics.{name}: " in cause for name in ("seed", "resume", "teacher.timeout_s"))
    assert len(cause.splitlines()) == 5
    assert not run.exists()


def test_a_secret_in_the_parameters_is_refused_and_not_shown(run: Path) -> None:
    secret = "sk-0123456789abcdef"
    for teacher in ({"api_key": secret}, {"key_env": secret}, {"base_url": f"http://user:{secret}@host/v1"}):
        with pytest.raises(ParamError, match="secret") as caught:
            open_topics(run, teacher=teacher)
        assert secret not in str(caught.value) and caught.value.__cause__ is None


def test_other_names_of_a_notebook_are_passed_over_and_the_seed_is_set(run: Path) -> None:
    draws = []
    for _ in range(2):
        open_topics(run, seed=5, pd=np, unrelated=object())
        draws.append((random.random(), float(np.random.rand())))
    assert draws[0] == draws[1]


def test_seconds_of_an_interrupted_attempt_are_kept(run: Path) -> None:
    stage = open_topics(run)
    opened = stage.dir / "opened.json"
    opened.write_text(json.dumps(json.loads(opened.read_text()) | {"opened_at": stage.started - 100}))
    assert open_topics(run).finish(1, 1, {})["seconds"] == pytest.approx(100, abs=5)


def test_a_full_disk_leaves_the_stage_unfinished(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = open_topics(run)
    with monkeypatch.context() as patch:
        def refuse(handle: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("os.fsync", refuse)
        with pytest.raises(RecordError, match="the disk is full"):
            stage.finish(1, 1, {})
    assert load_stage_record(run, "01_topics") is None
    assert open_topics(run).resumed


def test_every_stage_opens_with_its_defaults(run: Path) -> None:
    for name in STAGES:
        open_stage(name, {"run_dir": str(run)}).finish(1, 1, {})
    assert len({load_stage_record(run, name)["fingerprint"] for name in STAGES}) == len(STAGES)


def test_a_stage_that_was_opened_anew_elsewhere_can_no_longer_be_written(run: Path) -> None:
    """Or an idle notebook would put its own record over the rows of another one's parameters."""
    first = open_topics(run, seed=0)
    (first.dir / "topics.jsonl").write_text("rows of seed 0\n")
    second = open_topics(run, seed=1)
    for write in (lambda: first.finish(1, 1, {}), first.reopen):
        with pytest.raises(StageError, match="has been opened anew since"):
            write()
    assert second.finish(1, 1, {})["fingerprint"] == second.fingerprint
    third = open_topics(run, seed=1, resume="never")
    with pytest.raises(StageError, match="has been opened anew since"):
        second.finish(1, 1, {})
    open_topics(run, seed=1)
    third.finish(1, 1, {})


def test_half_done_work_of_an_older_format_is_refused_in_words(run: Path) -> None:
    stage = open_topics(run)
    (stage.dir / "topics.jsonl").write_text("old\n")
    opened = json.loads((stage.dir / "opened.json").read_text())
    (stage.dir / "opened.json").write_text(json.dumps({key: opened[key] for key in opened if key != "format"}))
    with pytest.raises(StageError, match=r"begun by another version of the kit(.|\n)*resume to never"):
        open_topics(run)
    assert not open_topics(run, resume="never").resumed
    assert (run / "archive" / "01_topics.0" / "topics.jsonl").read_text() == "old\n"
