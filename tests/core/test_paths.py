"""Where things lie: the repository's root from any folder below it, named folders, and the cache."""

import sys
from pathlib import Path

import pytest

from synthkit.core.paths import cache_dir, find_root, locate


def test_the_root_is_found_from_below_and_named_folders_from_there(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("notebooks", "params", "models/mine"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks")
    assert find_root() == tmp_path
    assert locate("models/mine") == str(tmp_path / "models" / "mine")
    assert locate("Qwen/Qwen3-4B") == "Qwen/Qwen3-4B", "a model's id on the Hub stays as it is"


def test_outside_a_repository_the_root_is_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert find_root() == tmp_path / "notebooks"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep caches elsewhere")
@pytest.mark.parametrize(("env", "expected"), [
    ({"SYNTHKIT_CACHE": "/given", "XDG_CACHE_HOME": "/xdg"}, "/given"), ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/synthkit"),
    ({"SYNTHKIT_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/someone/.cache/synthkit"),
    ({}, "/home/someone/.cache/synthkit"),
])
def test_the_cache_lies_where_the_environment_says(
    env: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SYNTHKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/someone"} | env).items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)
