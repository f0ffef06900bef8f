"""The index of the MLGym contract is true: what it names exists, and every section is held by tests of its own."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from contract_index import HELD, OPEN, TITLES

HERE = Path(__file__).resolve().parent


def list_tests(path: Path) -> list[str]:
    """The names of the test functions of a file."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def list_own() -> list[tuple[str, str]]:
    """(section, test) of this folder; the section is '' where the name begins with none."""
    sections = {section.replace(".", "_"): section for section in TITLES}
    found = []
    for path in sorted(HERE.glob("test_contract_*.py")):
        for name in list_tests(path) if path.name != Path(__file__).name else ():
            start = re.match(r"test_((?:\d_)+)[a-z]", name)
            found.append((sections.get(start[1].rstrip("_"), "") if start else "", name))
    return found


def test_every_test_named_elsewhere_exists() -> None:
    named = {test for sentences in HELD.values() for tests in sentences.values() for test in tests}
    existing = {f"{path.stem}::{name}" for path in HERE.parent.rglob("test_*.py") for name in list_tests(path)}
    assert sorted(named - existing) == []


def test_every_section_is_held() -> None:
    assert TITLES.keys() == HELD.keys() and OPEN.keys() <= TITLES.keys()
    assert {section for section, _ in list_own()} == TITLES.keys()


def test_every_name_begins_with_its_section_and_stands_once() -> None:
    own = list_own()
    assert [name for section, name in own if not section] == []
    assert [name for name, count in Counter(name for _, name in own).items() if count > 1] == []


@pytest.mark.parametrize("path", sorted(HERE.glob("test_contract_*.py")), ids=lambda path: path.stem)
def test_what_differs_says_why(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    unsaid = []
    for number, line in enumerate(lines):
        if re.match(r"def test_[\d_]+_differs_", line):
            body = next(at for at in range(number, len(lines)) if lines[at].endswith("-> None:")) + 1
            unsaid += [] if lines[body].lstrip().startswith("#") else [line]
    assert unsaid == []
