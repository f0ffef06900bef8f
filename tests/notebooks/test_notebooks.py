"""The seven notebooks and their solutions as text: structure, parameters, cleanliness. No kernel is started."""

import ast
import importlib
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from kits.places import ROOT

from synthkit.core.params import STAGES

LESSONS = [ROOT / "notebooks" / f"{name}.ipynb" for name in STAGES]
SOLUTIONS = [ROOT / "notebooks" / "solutions" / f"{name}.ipynb" for name in STAGES]
ALL = LESSONS + SOLUTIONS
FORBIDDEN = re.compile(
    r"^\s*[!%]|\bpip install\b|\binput\(|\bgetpass\b|\blogin\(|[\"'](?:/|[A-Z]:\\)|\bsys\.path\b", re.M
)


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def read_cells(path: Path, kind: str | None = None) -> list[Any]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if kind in (None, cell.cell_type)]


def read_tagged(path: Path, tag: str) -> list[Any]:
    return [cell for cell in read_cells(path) if tag in cell.metadata.get("tags", [])]


def read_parameters(path: Path) -> dict[str, Any]:
    """The parameters cell's names and values; anything but plain literals raises."""
    (cell,) = read_tagged(path, "parameters")
    values = {}
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
        values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def test_only_the_planned_notebooks_are_there() -> None:
    assert sorted((ROOT / "notebooks").rglob("*.ipynb")) == sorted(ALL)


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_is_stripped_and_valid(path: Path) -> None:
    raw = json.loads(path.read_text())
    nbformat.validate(raw)
    assert (raw["nbformat"], raw["nbformat_minor"]) == (4, 5)
    assert raw["metadata"]["kernelspec"]["name"] == "python3"
    assert set(raw["metadata"]) == {"kernelspec", "language_info"}
    ids = [cell["id"] for cell in raw["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in raw["cells"]:
        assert set(cell["metadata"]) <= {"tags"}, cell["id"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, cell["id"]


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_code_is_short_and_has_no_logic_of_its_own(path: Path) -> None:
    assert len(read_cells(path)) <= 20
    for cell in read_cells(path, "code"):
        # The parameters are a list, one a line; all other code has to be short.
        most = 20 if "parameters" in cell.metadata.get("tags", []) else 15
        assert len(cell.source.splitlines()) <= most, cell.id
        assert not FORBIDDEN.search(cell.source), cell.id
        tree = ast.parse(cell.source)
        made = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))]
        assert not made, f"{cell.id}: notebooks define nothing"


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_every_name_taken_from_the_kit_exists(path: Path) -> None:
    """A renamed function breaks this test in milliseconds rather than a notebook after minutes."""
    tree = ast.parse("\n".join(cell.source for cell in read_cells(path, "code")))
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("synthkit"):
            for alias in node.names:
                modules[alias.asname or alias.name] = find_name(str(node.module), alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"


def find_name(module: str, name: str) -> Any:
    found = importlib.import_module(module)
    return getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")


def find_part(cells: list[Any], *texts: str) -> int:
    """Where the one cell stands that holds all these texts."""
    (at,) = [at for at, cell in enumerate(cells) if all(text in cell.source for text in texts)]
    return at


@pytest.mark.parametrize("path", LESSONS, ids=name_of)
def test_lesson_follows_the_plan(path: Path) -> None:
    """Its parts come once each and in this order, whatever stands between them."""
    cells = read_cells(path)
    exercises = [at for at, cell in enumerate(cells) if "exercise" in cell.metadata.get("tags", [])]
    (parameters,) = [at for at, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    places = [
        find_part(cells, f"# {path.stem[:2]} · "), find_part(cells, "**You will learn**", "**Needs**", "| profile |"),
        parameters, find_part(cells, f'open_stage("{path.stem}", globals())'), find_part(cells, "## The idea"),
        find_part(cells, "## The full run"), find_part(cells, ".run(stage"), find_part(cells, ".check(stage)"),
        find_part(cells, ".finish(stage)"), find_part(cells, "\n1. ", "\n2. ", "\n3. ", "solutions/"), *exercises,
    ]
    assert places[0] == 0 and places == sorted(places) and exercises
    assert cells[0].source.startswith("# ") and f"**{path.stem}**" in cells[0].source
    assert all(cells[at].cell_type == "code" for at in exercises)


@pytest.mark.parametrize("path", LESSONS, ids=name_of)
def test_parameters_are_those_of_the_stage(path: Path) -> None:
    values = read_parameters(path)
    assert list(values)[:3] == ["run_dir", "seed", "resume"]
    assert sorted(values) == sorted(STAGES[path.stem].model_fields)
    (cell,) = read_tagged(path, "parameters")
    lines = cell.source.splitlines()
    bare = [node.lineno for node in ast.parse(cell.source).body if "  # " not in lines[(node.end_lineno or 0) - 1]]
    assert bare == [], "each parameter has a comment"


@pytest.mark.parametrize("path", LESSONS, ids=name_of)
def test_parameters_are_the_offline_profile(path: Path) -> None:
    model = STAGES[path.stem]
    assert model.model_validate(read_parameters(path)) == model.model_validate(load_offline(path.stem))


def load_offline(name: str) -> dict[str, Any]:
    from synthkit.core.profiles import load_params

    return load_params([ROOT / "params" / "base.yaml", ROOT / "params" / "offline.yaml"])[name].model_dump()


@pytest.mark.parametrize("path", SOLUTIONS, ids=name_of)
def test_solution_answers_three_exercises(path: Path) -> None:
    text = "\n".join(cell.source for cell in read_cells(path, "markdown"))
    assert all(f"## Exercise {n}" in text for n in (1, 2, 3))
    assert list(read_parameters(path)) == ["run_dir"]
