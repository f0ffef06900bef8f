"""One source of versions, a tidy top level, small modules, and nothing in the repository that does not belong there."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from kits.places import ROOT

TOP_LEVEL = {
    ".ci", ".gitignore", "LICENSE", "Makefile", "README.md", "environment.yml", "notebooks", "outputs", "params",
    "pyproject.toml", "requirements.lock", "requirements.ray.lock", "synthkit", "tests",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(
    line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"
)


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def list_files() -> list[Path]:
    """What git holds or would hold."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements.ray.lock"])
def test_lock_pins_every_package_exactly(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []
    assert len({normalize(line.split("==")[0]) for line in lines}) == len(lines)


def test_pyproject_names_packages_and_lock_holds_their_versions() -> None:
    locked = {normalize(name) for name in LOCK}
    direct = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    assert [name for name in direct if not re.fullmatch(r"[a-z0-9_-]+", name)] == [], "versions stand in the lock alone"
    assert [name for name in direct if normalize(name) not in locked] == []


def test_environment_installs_from_the_lock_and_nothing_else() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    assert conda == ["python" + PROJECT["requires-python"], "pip"], "no second list of versions"


def test_makefile_and_ci_install_from_the_lock() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "--requirement requirements.lock" in makefile
    assert not re.search(r"==\d", makefile + (ROOT / ".ci/run").read_text())


def test_top_level_is_as_planned() -> None:
    found = {path.relative_to(ROOT).parts[0] for path in list_files()}
    assert found - TOP_LEVEL == set()
    assert TOP_LEVEL - found == set()


def test_outputs_holds_only_its_readme() -> None:
    assert [path.name for path in list_files() if path.parent == ROOT / "outputs"] == ["README.md"]


def test_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


def test_no_module_is_long() -> None:
    long = {str(p.relative_to(ROOT)): n for p in (ROOT / "synthkit").rglob("*.py")
            if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


@pytest.mark.parametrize("package", ["core", "gym", "show", "stages", "offline"])
def test_imports_go_down_only(package: str) -> None:
    """offline is reached only as an endpoint; core and gym know nothing of what stands on them."""
    above = {"core": {"gym", "stages", "show", "offline"}, "gym": {"stages", "show", "offline"},
             "show": {"stages", "offline"}, "stages": {"offline"}, "offline": {"stages", "show"}}[package]
    pattern = re.compile(rf"^\s*(?:from|import) synthkit\.({'|'.join(sorted(above))})\b", re.M)
    found = {str(p.relative_to(ROOT)): pattern.findall(p.read_text())
             for p in (ROOT / "synthkit" / package).rglob("*.py") if pattern.search(p.read_text())}
    assert found == {}


def test_no_local_paths_or_hosts() -> None:
    """No absolute path of a developer's machine and no package registry host stands in a text file."""
    forbidden = re.compile(r"(?<![\w.])/(?:work|root|farm)/(?!\.?cache)|\bpypi\.org\b|--index-url|\bTODO\b|\bFIXME\b")
    found = []
    for path in list_files():
        if path.suffix in {".png", ".parquet", ".pkl"} or path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1):
            if forbidden.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []
