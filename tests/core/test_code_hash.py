"""The hash of a stage's code: what changes it, what does not, and how far it reaches."""

import shutil
from pathlib import Path

import pytest

from synthkit.core import code_hash
from synthkit.core.code_hash import Code, hash_code, reach_files
from synthkit.core.params import STAGES

BEFORE = '"""What it does."""\n\nLIMIT = 3\n\n\ndef count(x: int) -> int:\n    """Count."""\n    return x + LIMIT\n'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "synthkit"
    shutil.copytree(code_hash.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_hash, "PACKAGE", copy)
    return copy


def hash_all() -> dict[str, str]:
    return {name: hash_code(name) for name in STAGES}


def changed_by(path: Path, text: str) -> set[str]:
    """The stages whose hash changes when `text` is put at a file's end."""
    before, old = hash_all(), path.read_text()
    path.write_text(old + text)
    after = hash_all()
    path.write_text(old)
    return {name for name in STAGES if before[name] != after[name]}


@pytest.mark.parametrize("after", [
    BEFORE.replace("What it does.", "Says the same in other words."),
    BEFORE.replace('"""Count."""', '"""Counts."""'),
    BEFORE.replace('    """Count."""\n', ""),
    BEFORE.replace("LIMIT = 3\n", "LIMIT = 3  # for a reason\n"),
    BEFORE.replace("x + LIMIT", "(x\n            + LIMIT)") + "\n\n# The end.\n",
])
def test_comments_docstrings_and_layout_do_not_count(after: str) -> None:
    assert after != BEFORE and Code(after.encode()).hash == Code(BEFORE.encode()).hash


@pytest.mark.parametrize("after", [
    BEFORE.replace("3", "4"), BEFORE.replace("+", "-"), BEFORE.replace("x: int", "x: float"),
    BEFORE + "\n\ncount(1)\n", BEFORE.replace("x + LIMIT", "x + 'LIMIT'"), BEFORE + "what is no Python\n",
])
def test_a_changed_statement_counts(after: str) -> None:
    assert Code(after.encode()).hash != Code(BEFORE.encode()).hash


def test_the_hash_reaches_what_a_stage_uses_and_no_further(package: Path) -> None:
    line = "\nCHANGED = 1\n"
    assert changed_by(package / "stages" / "topics" / "stage.py", "\n# only a remark\n") == set()
    assert "03_codegen" in changed_by(package / "stages" / "codegen" / "stage.py", line)
    assert "01_topics" not in changed_by(package / "stages" / "codegen" / "stage.py", line)
    assert changed_by(package / "core" / "files.py", line) == set(STAGES)
    assert changed_by(package / "records.py", line) == set(STAGES)
    for place in ("show/text.py", "export/harbor.py", "offline/policy.py", "cli.py", "runner.py", "doctor.py"):
        assert changed_by(package / place, line) == set(), place


@pytest.mark.parametrize("place", [
    "gym/scoring/scoring.py", "gym/scoring/templates/metrics.yaml", "gym/scoring/in_sandbox/generic_models.py",
    "gym/sandbox/in_sandbox/guest.py", "gym/sandbox/in_sandbox/guest_editor.py", "gym/sandbox/in_sandbox/shim.py",
    "gym/sandbox/in_sandbox/zygote.py", "stages/self_debug/candidate.py",
    "stages/self_debug/in_sandbox/run_evaluations.py",
])
def test_what_runs_in_a_sandbox_counts(package: Path, place: str) -> None:
    assert "04_self_debug" in changed_by(package / place, "\nCHANGED: 1\n")


def test_modules_that_are_imported_late_count() -> None:
    source = Code(b"def late():\n    from synthkit.gym import scoring\n    import synthkit.core.hub as hub\n")
    assert {"synthkit.gym", "synthkit.gym.scoring", "synthkit.core.hub"} <= source.imports
    assert "core/hub" in reach_files(code_hash.PACKAGE, "stages/datasets")


def test_a_file_is_read_once_for_all_stages() -> None:
    code_hash.read_version.cache_clear()
    hash_all()
    first = code_hash.read_version.cache_info()
    assert first.misses == first.currsize, "each file once"
    hash_all()
    again = code_hash.read_version.cache_info()
    assert again.misses == first.misses and again.hits > first.hits
