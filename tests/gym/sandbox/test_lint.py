"""Contract 1.7: an edit that brings a fault into a Python file is not made; one that leaves what was there is."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Sandbox, open_sandbox
from synthkit.gym.sandbox.in_sandbox.guest_lint import Fault, check_python, find_new

BACKENDS = ["process", *(["bwrap"] if shutil.which("bwrap") else [])]


@pytest.fixture(scope="module", params=BACKENDS)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    params = SandboxParams(backend=request.param, warm=False, output_kb=64)
    with open_sandbox(tmp_path_factory.mktemp("workspace"), params) as sandbox:
        yield sandbox


def open_file(session: Sandbox, text: str) -> Path:
    path = session.workspace / "code.py"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    session.call("open", ["code.py"])
    return path


@pytest.mark.parametrize("text, said", [
    ("x = np.zeros(3)", "line 2: F821 the name 'np' is not defined"),
    ("__all__ = ['nothing']", "line 2: F822 the name 'nothing' in __all__ is not defined"),
    ("def f(a, a): return a", "line 2: F831 the argument 'a' occurs twice"),
    ("if 1:\n  x = 1", "line 3: E111 the indentation is no multiple of four"),
    ("if 1:\nx = 1", "line 3: E112 expected an indented block after 'if' statement on line 2"),
    ("  x = 1", "line 2: E113 this line is indented for no reason"),
    ("x = (1", "line 2: E999 '(' was never closed"),
    ("# coding: nonesuch", "E902 the file cannot be read as text"),
])
def test_each_fault_is_named(session: Sandbox, text: str, said: str) -> None:
    path = open_file(session, "# top\nprint()\n")
    result = session.call("insert", ["1"], text)
    assert result.exit_code == 1
    assert said in result.output.split("\n")[1]
    assert path.read_text() == "# top\nprint()\n"


def test_what_was_there_stays_allowed(session: Sandbox) -> None:
    path = open_file(session, "a = missing\nif a:\n  b = 2\n")
    assert session.call("insert", ["0"], "top = 1\nmore = 2").exit_code == 0
    assert session.call("edit", ["3:3"], "a = missing + 1").exit_code == 0
    assert path.read_text() == "top = 1\nmore = 2\na = missing + 1\nif a:\n  b = 2\n"
    assert "line 6: F821 the name 'missing'" in session.call("insert", ["5"], "c = missing").output
    assert "line 3: F821" not in session.call("insert", ["5"], "c = missing").output


def test_a_fault_elsewhere_is_the_edits_too(session: Sandbox) -> None:
    open_file(session, "import os\n\n\nprint(os.getcwd())\n")
    assert "line 3: F821 the name 'os' is not defined" in session.call("edit", ["1:1"], "").output


def test_a_broken_file_can_be_mended_step_by_step(session: Sandbox) -> None:
    open_file(session, "def f(:\n    pass\n\n\nx = (1\ny = unknown\n")
    assert session.call("edit", ["1:1"], "def f():").exit_code == 0
    assert "E999" in session.call("edit", ["2:2"], "    pass )").output
    assert session.call("edit", ["5:5"], "x = 1").exit_code == 0
    assert session.call("edit", ["5:5"], "x = unknown2").exit_code == 1


def test_other_files_and_excused_lines_are_let_be(session: Sandbox) -> None:
    open_file(session, "a = 1\n")
    assert session.call("edit", ["1:1"], "a = b  # noqa: F821").exit_code == 0
    (session.workspace / "notes.txt").write_text("one\n")
    session.call("open", ["notes.txt"])
    assert session.call("edit", ["1:1"], "def f(:").exit_code == 0


def test_a_file_that_is_too_large_is_changed_and_says_so(session: Sandbox) -> None:
    open_file(session, "a = 1\n" * 200_000)
    assert "too large to be checked" in session.call("edit", ["1:1"], "a = (").output[-80:]


def test_continuation_lines_and_comments_have_their_own_indentation() -> None:
    text = "if 1:\n    x = (1,\n  2)\n  # three\n    y = '''\n two'''\n"
    assert check_python(text).faults == []
    assert [fault.line for fault in check_python("class A:\n @p\n def f(self): x = 1; y = 2\n").faults] == [2, 2, 3]


@pytest.mark.parametrize("text", ["x = " + "-" * 9000 + "1\n", "x = a" + ".b" * 2500 + "\n", "(" * 300, "\ud800", "\0",
                                  "x: a" + ".b" * 2500 + "\n", "".join(" " * n + "if 1:\n" for n in range(120))])
def test_what_is_too_deep_is_no_crash(text: str) -> None:
    assert check_python(text)


PIECES = st.sampled_from([
    "def f(a, a):\n", "    return (\n", "  x = 1\n", "\tif y:\n", "x = '''\n", "'''\n", "import os\n", "# noqa\n",
    "__all__ = ['q']\n", "else:\n", "match x:\n", " case 1:\n", "@d\n", "class A: pass\n", "\\\n", "\0", "\ufeff",
    "é = 1\n", "\r", "\f", "# -*- coding: latin-1 -*-\n", "try:\n", "except* E:\n", "lambda: (yield)\n",
    "f'{x!r:{w}}'\n", "del x\n",
])
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=14).map("".join)


@given(TEXTS)
def test_lint_never_raises(text: str) -> None:
    faults = check_python(text).faults
    assert find_new(faults, faults, 1, 0, 0) == []


@given(before=TEXTS, text=TEXTS, data=st.data())
@settings(max_examples=100, deadline=None)
def test_an_edit_that_is_refused_leaves_every_byte(session: Sandbox, before: str, text: str,
                                                   data: st.DataObject) -> None:
    path = open_file(session, before)
    old = path.read_bytes()
    count = max(1, old.count(b"\n"))
    first = data.draw(st.integers(1, count))
    result = session.call("edit", [f"{first}:{data.draw(st.integers(first, count))}"], text)
    if result.exit_code:
        assert path.read_bytes() == old
    else:
        assert result.output.endswith("(the file was changed)")


def test_new_is_what_was_not_there() -> None:
    old = [Fault(1, "F821", "a"), Fault(5, "F821", "b"), Fault(9, "E111", "c")]
    moved = [Fault(1, "F821", "a"), Fault(6, "F821", "b"), Fault(11, "E111", "c")]
    assert find_new(old, moved, 5, 6, 4) == []
    assert find_new(old, [*moved, Fault(7, "F821", "b")], 5, 6, 4) == [Fault(7, "F821", "b")]
