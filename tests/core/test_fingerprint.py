"""Fingerprints follow what shapes results: the content of what parameters name, and never an address or a version."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from kits.chain_kit import finish_before

import synthkit
from synthkit.core import fingerprint
from synthkit.core.fingerprint import compute_fingerprint, hash_content
from synthkit.core.params import STAGES


def print_of(name: str, **values: Any) -> str:
    return compute_fingerprint(name, STAGES[name].model_validate(values), {"fingerprint": "f", "results": "r"})


def test_an_address_counts_only_by_its_kind() -> None:
    for name, section, key in [("01_topics", "teacher", "base_url"), ("02_datasets", "hub", "endpoint"),
                               ("07_mlgym_eval", "student", "base_url")]:
        here, there, default = (print_of(name, **{section: {key: value}} if value else {})
                                for value in ("http://localhost:8000/v1", "https://api.example.com/v1", None))
        assert here == there != default


@pytest.mark.parametrize(("name", "key", "more"), [
    ("02_datasets", "benchmark", {}), ("07_mlgym_eval", "benchmark", {}), ("05_trajectories", "tokenizer", {}),
    ("06_sft", "model", {"from_scratch": None}),
])
def test_a_folder_counts_by_its_content(tmp_path: Path, name: str, key: str, more: dict[str, Any]) -> None:
    folder = tmp_path / "a"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "task.yaml").write_text("id: one\n")
    first = print_of(name, **{key: str(folder)}, **more)
    shutil.copytree(folder, tmp_path / "b")
    assert print_of(name, **{key: str(tmp_path / "b")}, **more) == first
    (folder / "configs" / "task.yaml").write_text("id: two\n")
    second = print_of(name, **{key: str(folder)}, **more)
    (folder / "configs" / "task.yaml").rename(folder / "configs" / "other.yaml")
    third = print_of(name, **{key: str(folder)}, **more)
    (folder / ".git").mkdir()
    (folder / ".git" / "index").write_text("?")
    assert print_of(name, **{key: str(folder)}, **more) == third
    assert len({first, second, third, print_of(name, **{key: "org/name"}, **more)}) == 4


def test_a_model_of_the_hub_counts_by_its_name() -> None:
    assert print_of("06_sft", model="org/a", from_scratch=None) != print_of("06_sft", model="org/b", from_scratch=None)


def test_what_is_embedded_counts_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = tmp_path / "offline"
    shutil.copytree(fingerprint.OFFLINE, offline, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "OFFLINE", offline)
    remote = {"base_url": "http://localhost/v1"}
    before, outside = print_of("01_topics"), print_of("01_topics", teacher=remote)
    with (offline / "policy.py").open("a") as file:
        file.write("\n# a remark\n")
    assert print_of("01_topics") == before
    for path in (offline / "policy.py", next(offline.glob("library/*/topic.yaml")),
                 next(offline.glob("library/*/baseline.py"))):
        with path.open("a") as file:
            file.write("\n# remark: 1\n" if path.parent != offline else "\nCHANGED = 1\n")
        assert print_of("01_topics") != before
        before = print_of("01_topics")
    assert print_of("01_topics", teacher=remote) == outside


def test_another_teacher_does_not_change_with_the_scripted_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage 02 of a paid run still checks against the embedded benchmark, and an upgrade must not archive it."""
    copy = tmp_path / "offline"
    shutil.copytree(fingerprint.OFFLINE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "OFFLINE", copy)
    paid = {"teacher": {"model": "gpt-5", "base_url": "https://api.openai.com/v1"},
            "hub": {"endpoint": "https://huggingface.co"}}
    before = [print_of("02_datasets", **values) for values in (paid, {})]
    with (copy / "policy.py").open("a") as file:
        file.write("\nCHANGED = 1\n")
    after = [print_of("02_datasets", **values) for values in (paid, {})]
    assert before[0] == after[0] and before[1] != after[1]


def test_the_version_and_what_is_runtime_only_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = print_of("04_self_debug")
    monkeypatch.setattr(synthkit, "__version__", "9.9")
    runtime = {"allow_owed": 0.1, "workers": 7, "executor": "ray", "ray": {"address": "head:6379"}, "resume": "never"}
    assert print_of("04_self_debug", **runtime) == before
    assert print_of("04_self_debug", margin=0.5) != before


def test_the_grid_counts_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grid = tmp_path / "grid.yaml"
    grid.write_text("a: 1\n")
    first = print_of("01_topics", grid="grid.yaml")
    grid.write_text("a: 2\n")
    assert print_of("01_topics", grid="grid.yaml") != first


def test_an_absent_folder_has_no_content(tmp_path: Path) -> None:
    assert hash_content(tmp_path / "absent") is None
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    assert hash_content(tmp_path) == hash_content(tmp_path) is not None


def test_every_stage_has_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    finish_before(tmp_path / "run", "")
    assert len({print_of(name) for name in STAGES}) == len(STAGES)
