"""The chain of stages: complete only on what each was made from, marked where other code made it, never half read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kits.chain_kit import finish_before, finish_stage

from synthkit.core import chain, code_hash
from synthkit.core.chain import is_complete, list_pending, load_stage_record, uses_other_code
from synthkit.core.errors import StageError
from synthkit.core.files import FORMAT
from synthkit.core.opening import open_stage
from synthkit.core.params import STAGES, StageParams

FIRST_FOUR = list(STAGES)[:4]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def params_of(run: Path, **values: Any) -> dict[str, StageParams]:
    return {name: model.model_validate({"run_dir": str(run)} | (values.get(name[3:]) or {}))
            for name, model in STAGES.items()}


def pending(run: Path, *chosen: str, **values: Any) -> list[str]:
    return list_pending(params_of(run, **values), chosen or FIRST_FOUR, run)


def test_a_record_names_its_results_and_those_it_was_made_from(run: Path) -> None:
    first, second = finish_stage(run, "01_topics", "a\n"), finish_stage(run, "02_datasets")
    assert first["made_from"] == {}
    assert second["made_from"] == {"fingerprint": first["fingerprint"], "results": first["results"]}
    assert first["format"] == FORMAT and first["codes"] == [code_hash.hash_code("01_topics")]


def test_a_stage_made_again_breaks_the_chain_behind_it(run: Path) -> None:
    for name in FIRST_FOUR:
        finish_stage(run, name, f"{name}\n")
    assert pending(run) == []
    finish_stage(run, "02_datasets", "other splits\n", max_train_rows=50)
    changed = params_of(run, datasets={"max_train_rows": 50})
    complete = [name for name in FIRST_FOUR if is_complete(name, changed[name], run)]
    assert complete == ["01_topics", "02_datasets"]
    cause = "04_self_debug needs 03_codegen, but 02_datasets has been made again since 03_codegen was made from it"
    with pytest.raises(StageError, match=cause) as caught:
        open_stage("04_self_debug", {"run_dir": str(run)})
    assert "synthkit run --from 03" in caught.value.fix
    finish_stage(run, "03_codegen", "new drafts\n")
    assert not is_complete("04_self_debug", changed["04_self_debug"], run)
    assert not open_stage("04_self_debug", {"run_dir": str(run)}).resumed


def test_a_stage_made_again_to_the_same_results_breaks_nothing(run: Path) -> None:
    for name in FIRST_FOUR:
        finish_stage(run, name, f"{name}\n")
    finish_stage(run, "02_datasets", "02_datasets\n", resume="never")
    assert (run / "archive" / "02_datasets.0").is_dir()
    assert pending(run) == []


def test_results_of_other_content_with_the_same_parameters_break_the_chain(run: Path) -> None:
    for name in FIRST_FOUR:
        finish_stage(run, name, f"{name}\n")
    finish_stage(run, "01_topics", "the teacher said something else\n", resume="never")
    assert pending(run) == FIRST_FOUR[1:]


def test_once_one_stage_is_pending_all_later_ones_are(run: Path) -> None:
    finish_before(run, "")
    assert pending(run, *STAGES) == []
    assert pending(run, *STAGES, topics={"n_topics": 5}) == list(STAGES)
    assert pending(run, *STAGES, codegen={"resume": "never"}) == list(STAGES)[2:]
    (run / "06_sft" / "stage.json").unlink()
    assert pending(run, *STAGES) == ["06_sft", "07_mlgym_eval"]


def test_a_stage_that_owes_more_than_is_allowed_now_is_pending(run: Path) -> None:
    open_stage("01_topics", {"run_dir": str(run), "allow_owed": 0.5}).finish(4, 2, {}, owed={"endpoint": 2})
    finish_stage(run, "02_datasets")
    assert pending(run, topics={"allow_owed": 0.5}) == ["03_codegen", "04_self_debug"]
    assert pending(run) == FIRST_FOUR


def test_a_hole_in_the_chain_is_named(run: Path) -> None:
    finish_before(run, "04_self_debug")
    (run / "01_topics" / "stage.json").unlink()
    with pytest.raises(StageError, match="04_self_debug needs 01_topics, which has not finished"):
        open_stage("04_self_debug", {"run_dir": str(run)})
    (run / "03_codegen" / "stage.json").unlink()
    with pytest.raises(StageError, match="04_self_debug needs 03_codegen, which has not finished"):
        open_stage("04_self_debug", {"run_dir": str(run)})


def test_an_open_stage_notices_that_what_it_reads_was_made_again(run: Path) -> None:
    finish_before(run, "03_codegen")
    stage = open_stage("03_codegen", {"run_dir": str(run)})
    assert stage.input("02_datasets") == run / "02_datasets" and stage.input("01_topics") == run / "01_topics"
    finish_stage(run, "02_datasets", max_train_rows=50)
    with pytest.raises(StageError, match="02_datasets has been made again since 03_codegen was opened"):
        stage.input("02_datasets")
    stage.finish(1, 1, {})
    assert not is_complete("03_codegen", stage.params, run)
    finish_stage(run, "01_topics", n_topics=5)
    with pytest.raises(StageError, match="03_codegen needs 02_datasets, but 01_topics has been made again"):
        stage.input("01_topics")


@pytest.mark.parametrize(("change", "cause"), [
    ({"format": None}, "was made by an older version of the kit"),
    ({"format": 1}, "was made by an older version of the kit"),
    ({"format": 99}, "was made by a newer version of the kit"),
    ({"made_from": None}, "is damaged: it lacks made_from"),
])
def test_a_record_of_another_format_is_refused_in_words(run: Path, change: dict[str, Any], cause: str) -> None:
    path = run / "01_topics" / "stage.json"
    content = finish_stage(run, "01_topics") | change
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    for attempt in (lambda: load_stage_record(run, "01_topics"), lambda: finish_stage(run, "01_topics"),
                    lambda: open_stage("02_datasets", {"run_dir": str(run)}), lambda: pending(run)):
        with pytest.raises(StageError, match=cause) as caught:
            attempt()
        assert caught.value.fix


def test_results_are_what_the_next_stage_reads(run: Path) -> None:
    finish_before(run, "06_sft")
    stage = open_stage("06_sft", {"run_dir": str(run)})
    hashes = [stage.finish(1, 1, {})["results"]]
    for folder in ("student", "base"):
        (stage.dir / folder).mkdir()
        (stage.dir / folder / "model.safetensors").write_text("weights")
        hashes.append(stage.finish(1, 1, {})["results"])
    (stage.dir / "log.jsonl").write_text("nobody reads this\n")
    assert len(set(hashes)) == 3 and stage.finish(1, 1, {})["results"] == hashes[-1]
    assert set(chain.RESULT_FILES) == set(STAGES)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package whose code is the one that counts."""
    copy = tmp_path / "synthkit"
    shutil.copytree(code_hash.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_hash, "PACKAGE", copy)
    return copy


def test_work_of_other_code_stays_and_is_marked(run: Path, package: Path) -> None:
    finish_before(run, "03_codegen")
    half = open_stage("03_codegen", {"run_dir": str(run)})
    half.reopen()
    (half.dir / "drafts.jsonl").write_text("half\n")
    old = code_hash.hash_code("03_codegen")
    module = package / "stages" / "topics" / "stage.py"
    source = module.read_text()
    module.write_text(source + "\nCHANGED = 1\n")
    with (package / "stages" / "codegen" / "stage.py").open("a") as file:
        file.write("\nCHANGED = 1\n")
    assert pending(run) == FIRST_FOUR[2:] and uses_other_code(run, "01_topics") and uses_other_code(run, "03_codegen")
    topics = open_stage("01_topics", {"run_dir": str(run)})
    assert topics.finished and "made by other code" in topics.describe().to_string()
    assert (load_stage_record(run, "01_topics") or {})["made_by_other_code"] is True
    assert topics.finish(1, 1, {})["made_by_other_code"] is True
    again = open_stage("03_codegen", {"run_dir": str(run)})
    assert again.resumed and (again.dir / "drafts.jsonl").read_text() == "half\n"
    assert again.codes == [old], "to open it is no work"
    again.reopen()
    record = again.finish(1, 1, {})
    assert record["codes"] == [old, code_hash.hash_code("03_codegen")] and record["made_by_other_code"]
    assert not list(run.glob("archive/*"))
    module.write_text(source)
    assert "made by other code" not in open_stage("01_topics", {"run_dir": str(run)}).describe().to_string()
    assert (load_stage_record(run, "01_topics") or {})["made_by_other_code"] is False


def test_data_that_was_made_anew_breaks_the_chain_though_the_records_are_equal(run: Path) -> None:
    """The split of a table is no part of its record, and stages 03 and 04 read it."""
    finish_before(run, "04_self_debug")
    assert pending(run) == FIRST_FOUR[3:]
    data = run / "02_datasets" / "data" / "iris"
    data.mkdir(parents=True)
    (data / "train.csv").write_text("another split")
    open_stage("02_datasets", {"run_dir": str(run)}).finish(1, 1, {})
    assert pending(run) == FIRST_FOUR[2:]
