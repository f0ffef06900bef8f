"""One source of versions, a tidy top level, small modules, and nothing in the repository that does not belong there."""

import ast
import json
import re
import subprocess
import sys
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

# What a package is called where it is imported otherwise.
CALLED = {"IPython": "ipython", "PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
NEVER_IMPORTED = {
    "accelerate": "the trainer of transformers asks for it",
    "ipykernel": "runs the notebooks' cells",
    "jupyterlab": "shows the notebooks: make lab",
    "pyarrow": "pandas and datasets read and write Parquet through it",
    "ruff": "is run as a command: make lint",
    "statsmodels": "its tables are imported by the name that the catalogue gives",
}
CORNERSTONES = {
    "jupyterlab", "papermill", "openai", "huggingface-hub", "datasets", "transformers", "peft", "seaborn",
}
# Task code of the embedded teacher: it runs in a sandbox, on the libraries that the gates allow.
TASK_CODE = ("synthkit/offline/library/", "synthkit/offline/held_out/")


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_code(path: Path) -> str:
    """The Python of a module, or of a notebook's code cells."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def list_modules(code: str) -> set[str]:
    """The top-level modules that a file imports anywhere in it; relative imports name none."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def list_imported(root: Path, *folders: str) -> dict[str, set[str]]:
    """Packages that the code below these folders imports, and the files that do; the kit and Python have none."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in folders for path in sorted((root / folder).rglob("*.*"))):
        name = path.relative_to(root).as_posix()
        if path.suffix not in (".py", ".ipynb") or name.startswith(TASK_CODE):
            continue
        for module in list_modules(read_code(path)) - sys.stdlib_module_names - {"synthkit"} - list_local(root, path):
            found.setdefault(normalize(CALLED.get(module, module)), set()).add(name)
    return found


def list_local(root: Path, path: Path) -> set[str]:
    """Modules that a file finds without a package: in a sandbox those beside it, in tests every one of the tests."""
    if path.is_relative_to(root / "tests"):
        return {other.stem for other in (root / "tests").rglob("*") if other.suffix == ".py" or other.is_dir()}
    return {other.stem for other in path.parent.glob("*.py")} if path.parent.name == "in_sandbox" else set()


def list_declared(*extras: str) -> set[str]:
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {normalize(name) for group in groups for name in group}


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


def test_ray_is_pinned_in_its_own_lock() -> None:
    locked = {normalize(line.partition("==")[0]) for line in (ROOT / "requirements.ray.lock").read_text().splitlines()}
    assert {normalize(name) for name in PROJECT["optional-dependencies"]["ray"]} <= locked


def test_what_is_imported_is_declared() -> None:
    kit, tests = list_imported(ROOT, "synthkit", "notebooks"), list_imported(ROOT, "tests")
    assert {name: files for name, files in kit.items() if name not in list_declared("ray")} == {}
    assert {name: files for name, files in tests.items() if name not in list_declared("ray", "dev")} == {}


def test_what_is_declared_is_imported() -> None:
    """A package that only tests use belongs to the extra `dev`; one that nothing imports needs a reason."""
    kit, tests = list_imported(ROOT, "synthkit", "notebooks"), list_imported(ROOT, "tests")
    assert sorted(list_declared("ray") - kit.keys() - NEVER_IMPORTED.keys()) == []
    assert sorted(set(PROJECT["optional-dependencies"]["dev"]) - tests.keys() - NEVER_IMPORTED.keys()) == []
    assert sorted(list_declared("dev") & kit.keys() - list_declared()) == []
    assert sorted(NEVER_IMPORTED.keys() & kit.keys()) == [], "a reason that no longer holds"
    assert sorted(NEVER_IMPORTED.keys() - list_declared("dev")) == []
    assert CORNERSTONES <= list_declared()


def test_an_import_is_found_wherever_it_stands(tmp_path: Path) -> None:
    """Inside a function, in a notebook's cell and beside a module of its own name; task code is left out."""
    sources = {
        "synthkit/stages/datasets.py": "def load():\n    import datasets, os\n    from PIL.Image import open\n",
        "synthkit/gym/in_sandbox/guest.py": "import program\n",
        "synthkit/gym/in_sandbox/program.py": "from . import guest\n",
        "synthkit/offline/library/a/baseline.py": "import xgboost\n",
        "notebooks/1.ipynb": json.dumps({"cells": [{"cell_type": "code", "source": ["import yaml\n", "x = 1"]},
                                                   {"cell_type": "markdown", "source": ["import nothing"]}]}),
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list_imported(tmp_path, "synthkit", "notebooks") == {
        "datasets": {"synthkit/stages/datasets.py"}, "pillow": {"synthkit/stages/datasets.py"},
        "pyyaml": {"notebooks/1.ipynb"}}


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
