"""The plan of the house: imports go down only, no stage knows another, and a folder stays small enough to be read."""

import ast
import sys
from pathlib import Path

import pytest
from kits.import_map import ImportMap, find_circle, group_rooms, measure, parse
from kits.places import ROOT

STAGES = ("topics", "datasets", "codegen", "self_debug", "trajectories", "sft", "mlgym_eval")
# What each room may import; the modules at the top (cli, runner, plan, doctor) may import all but `offline`.
BELOW = {
    "core": set(), "gym": {"core"}, "records": {"core", "gym"}, "show": {"core", "gym", "records"},
    "export": {"core", "gym", "records"}, "stages": {"core", "gym", "records"}, "offline": {"core", "gym"},
}
GYM = {  # Of the gym's rooms.
    "task": set(), "aup": set(), "sandbox": {"task"}, "scoring": {"sandbox", "task"},
    "agent": {"scoring", "task"}, "environment": {"agent", "scoring", "sandbox", "task"},
    "trajectory": {"environment", "agent", "sandbox", "task"},
    "episode": {"trajectory", "environment", "agent", "sandbox", "task"},
    "bench": {"environment", "sandbox", "task"},
}
MAX_LINES = 400
IN_SANDBOX = sorted((ROOT / "synthkit").rglob("in_sandbox/*.py"))
# What a script in a sandbox may import besides the standard library: what a task's own code may.
LIBRARIES = {"numpy", "pandas", "sklearn", "PIL"}


@pytest.fixture(scope="module")
def found() -> ImportMap:
    return ImportMap(ROOT)


def list_upward(rooms: dict[str, set[str]], allowed: dict[str, set[str]]) -> list[str]:
    return [f"{room} -> {target}" for room, targets in rooms.items() for target in sorted(targets)
            if target not in allowed.get(room, allowed.keys() - {"offline"} | rooms.keys() - {"offline"})]


def test_imports_go_down_only(found: ImportMap) -> None:
    rooms = group_rooms(found.imports, "synthkit")
    assert rooms.keys() >= BELOW.keys() and list_upward(rooms, BELOW) == []
    assert find_circle(rooms) == ()


def test_no_two_modules_import_each_other(found: ImportMap) -> None:
    assert find_circle(found.imports) == ()


def test_the_gyms_rooms_stand_on_one_another(found: ImportMap) -> None:
    rooms = group_rooms(found.imports, "synthkit.gym")
    assert rooms.keys() == GYM.keys() and list_upward(rooms, GYM) == []


def test_no_stage_imports_another(found: ImportMap) -> None:
    rooms = group_rooms(found.imports, "synthkit.stages")
    assert rooms.keys() == {"common", *STAGES} and rooms["common"] == set()
    assert all(rooms[stage] <= {"common"} for stage in STAGES)
    figures = measure(rooms)
    assert figures.rooms <= 10 and figures.levels <= 4 and figures.arrows <= 16, figures


def test_each_stage_has_the_same_face() -> None:
    for stage in STAGES:
        folder = ROOT / "synthkit" / "stages" / stage
        defined = {node.name for node in parse(folder / "stage.py").body if isinstance(node, ast.FunctionDef)}
        assert {"load_inputs", "show_prompt", "preview", "run", "funnel", "check", "finish"} <= defined, stage


def test_a_file_is_short_enough_to_be_read() -> None:
    long = {str(path.relative_to(ROOT)): n for path in (ROOT / "synthkit").rglob("*.py")
            if (n := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES}
    assert long == {}


@pytest.mark.parametrize("path", IN_SANDBOX, ids=lambda path: path.stem)
def test_what_runs_in_a_sandbox_knows_nothing_of_the_kit(path: Path) -> None:
    beside = {other.stem for other in path.parent.glob("*.py")}
    tree = parse(path)
    for block in (node for node in ast.walk(tree) if isinstance(node, ast.If)):
        if ast.unparse(block.test) == "TYPE_CHECKING":
            block.body = [ast.Pass()]  # Never run: what stands beside is named there as the checker finds it.
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    roots = {alias.name.partition(".")[0] for node in imports for alias in node.names}
    roots |= {(node.module or "").partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert roots <= sys.stdlib_module_names | LIBRARIES | beside | {"pyflakes"}


def test_an_import_upward_is_found(tmp_path: Path) -> None:
    for place, text in (("core/a.py", "def late():\n    from synthkit.gym.b import x\n"), ("gym/b.py", "x = 1\n"),
                        ("gym/__init__.py", "from synthkit.gym.b import x\n"),
                        ("stages/sft/stage.py", "from synthkit.stages.topics import run\n"),
                        ("stages/topics/__init__.py", "from synthkit.stages.topics.stage import run\n"),
                        ("stages/topics/stage.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
                                                   "    from synthkit.stages.sft.stage import y\n")):
        path = tmp_path / "synthkit" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = ImportMap(tmp_path)
    assert list_upward(group_rooms(found.imports, "synthkit"), BELOW) == ["core -> gym"]
    assert group_rooms(found.imports, "synthkit.stages") == {"sft": {"topics"}, "topics": {"sft"}}
    assert set(find_circle(found.imports)) == {"synthkit.stages.sft.stage", "synthkit.stages.topics.stage"}


def test_every_public_name_says_what_it_is() -> None:
    """Functions, methods and classes of the package; of an overloaded function only the last one."""
    silent = []
    for path in sorted((ROOT / "synthkit").rglob("*.py")):
        if not any(part in path.as_posix() for part in ("/offline/library/", "/offline/held_out/")):
            silent += [f"{path.relative_to(ROOT)}: {name}" for name in list_silent(parse(path))]
    assert silent == []


def list_silent(tree: ast.AST) -> list[str]:
    """The public definitions in a tree, those inside of classes too, that have no docstring."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            overloaded = any(ast.unparse(mark) == "overload" for mark in node.decorator_list)
            found += [] if ast.get_docstring(node) or overloaded else [node.name]
            found += [f"{node.name}.{name}" for name in list_silent(node)] if isinstance(node, ast.ClassDef) else []
    return found
