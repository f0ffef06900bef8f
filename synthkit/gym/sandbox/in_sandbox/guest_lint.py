"""What is wrong with a Python file, and what an edit makes wrong: the faults for which MLGym takes an edit back.

Facts of MLGym v0.1.1: flake8 with F821, F822, F831, E111, E112, E113, E999 and E902. The names come from pyflakes, as
flake8's do; it lies beside this file as pyflakes.zip. The indentation comes from the syntax tree, for tokenizing a
file costs as much as all other checks. `# noqa` is honoured, as flake8 does.
"""

import ast
import io
import os
import re
import sys
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

MAX_BYTES = 1 << 20
# Frames of Python, not of C: pyflakes needs about three for each level of a tree, and the parser stops at 3000 levels.
DEEPEST = 20_000
UNREADABLE, SYNTAX = "E902", ("E112", "E113", "E999", "E902")
NOQA = re.compile(r"#\s*noqa(?::\s*([A-Z]+\d+(?:[,\s]+[A-Z]+\d+)*))?", re.IGNORECASE)
BRANCH = re.compile(r"\s*(else|finally)\b")


class Fault(NamedTuple):
    """A fault by flake8's code, with the line (1-based) and a text."""

    line: int
    code: str
    text: str


class Verdict(NamedTuple):
    """The faults of a file; `gap` says what could not be checked, '' for nothing."""

    faults: list[Fault]
    gap: str = ""


def check_python(text: str) -> Verdict:
    """All faults of a Python file, in the order of its lines. Never raises."""
    if len(text) > MAX_BYTES:
        return Verdict([], "it is too large to be checked")
    try:
        data = text.encode("utf-8", "surrogateescape")
        # Warnings about the text would go to the guest's stderr.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
    except SyntaxError as error:
        return Verdict([describe_syntax(error, data)])
    except (ValueError, RecursionError, MemoryError) as error:
        return Verdict([Fault(1, UNREADABLE, f"the file cannot be read as Python: {error}")])
    lines = re.split(r"\r\n|\r|\n", text)
    names, gap = find_names(tree)
    return Verdict(drop_excused(sorted([*names, *find_indents(tree, lines)]), lines), gap)


def find_new(old: list[Fault], new: list[Fault], first: int, last: int, written: int) -> list[Fault]:
    """The faults of a file that it did not have before lines first..last gave way to `written` others."""
    inside = range(first, first + written)
    if is_broken(old):
        # Of a file that cannot be parsed only the first fault is known: what comes to light elsewhere was there.
        if is_broken(new) and first <= old[0].line <= last:
            return []
        return [fault for fault in new if fault.line in inside]
    shift = written - (last - first + 1)
    known = Counter((fault.code, fault.text, move_line(fault.line, first, last, shift)) for fault in old)
    added = []
    for fault in new:
        key = (fault.code, fault.text, 0 if fault.line in inside else fault.line)
        known[key] -= 1
        if known[key] < 0:
            added.append(fault)
    return added


def move_line(line: int, first: int, last: int, shift: int) -> int:
    """Where a line lies after the edit; 0 for all lines that gave way."""
    if line < first:
        return line
    return 0 if line <= last else line + shift


def is_broken(faults: list[Fault]) -> bool:
    """Whether the faults are of a file that Python cannot parse."""
    return any(fault.code in SYNTAX for fault in faults)


def describe_syntax(error: SyntaxError, data: bytes) -> Fault:
    """The fault of a file that Python cannot parse, by the code that flake8 gives it."""
    line, said = error.lineno or 1, error.msg or "invalid syntax"
    if not is_readable(data):
        return Fault(line, UNREADABLE, f"the file cannot be read as text: {said}")
    if isinstance(error, IndentationError) and said.startswith("expected"):
        return Fault(line, "E112", said)
    if isinstance(error, IndentationError) and said.startswith("unexpected"):
        return Fault(line, "E113", "this line is indented for no reason")
    return Fault(line, "E999", said)


def is_readable(data: bytes) -> bool:
    """Whether bytes are text in the encoding that they declare, without a NUL."""
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        return "\0" not in data.decode(encoding)
    except (SyntaxError, ValueError, LookupError):
        return False


def find_names(tree: ast.Module) -> tuple[list[Fault], str]:
    """Names that are not defined, and arguments that occur twice; with what could not be checked."""
    checker, messages = load_pyflakes()
    texts = {
        messages.UndefinedName: ("F821", "the name {!r} is not defined"),
        messages.UndefinedExport: ("F822", "the name {!r} in __all__ is not defined"),
        messages.DuplicateArgument: ("F831", "the argument {!r} occurs twice"),
    }
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(DEEPEST)
    try:
        found = checker.Checker(tree).messages
    except Exception:  # any: a library is let loose on any text, and on the syntax of Pythons newer than it knows
        return [], "its names could not be checked"
    finally:
        sys.setrecursionlimit(limit)
    said = [(message, *texts[type(message)]) for message in found if type(message) in texts]
    return [Fault(message.lineno, code, text.format(message.message_args[0])) for message, code, text in said], ""


def load_pyflakes() -> tuple[ModuleType, ModuleType]:
    """pyflakes' modules checker and messages; imported at the first edit of a Python file, not at a session's start."""
    archive = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pyflakes.zip")
    if archive not in sys.path:
        sys.path.append(archive)
    from pyflakes import checker, messages  # type: ignore[import-untyped]  # it has none
    return checker, messages


def find_indents(tree: ast.Module, lines: list[str]) -> list[Fault]:
    """Logical lines whose indentation is no multiple of four columns, but for those that hold a comment only."""
    odd = {number for number, line in enumerate(lines, 1) if len(read_blank(line).expandtabs(8)) % 4}
    if not odd:
        return []
    return [Fault(number, "E111", "the indentation is no multiple of four")
            for number in odd.intersection(list_logical_lines(tree, lines))]


def read_blank(line: str) -> str:
    """The blanks and tabs that a line begins with."""
    return line[:len(line) - len(line.lstrip(" \t"))]


def list_logical_lines(tree: ast.Module, lines: list[str]) -> Iterator[int]:
    """The numbers of the lines at which a statement, a handler, a case, an else or a finally begins."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        before = getattr(node, "lineno", 0)
        for name in ("body", "handlers", "cases", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if not isinstance(block, list) or not block:
                continue
            starts = [start for part in block for start in list_starts(part, lines)]
            yield from starts
            if name in ("orelse", "finalbody"):
                yield from (number for number in range(before + 1, min(find_line(block[0]), len(lines)) + 1)
                            if BRANCH.match(lines[number - 1]))
            before = getattr(block[-1], "end_lineno", before)
            todo += [part for part in block if hasattr(part, "body") or hasattr(part, "cases")]


def list_starts(part: ast.stmt | ast.excepthandler | ast.match_case, lines: list[str]) -> Iterator[int]:
    """The lines that a statement, a handler or a case begins, its decorators' too; none for one behind a semicolon."""
    if isinstance(part, ast.match_case):
        yield part.pattern.lineno
    elif part.lineno <= len(lines) and len(read_blank(lines[part.lineno - 1])) == part.col_offset:
        yield part.lineno
    yield from list_decorator_lines(part)


def find_line(part: ast.stmt) -> int:
    """The first line of a statement, that of its first decorator where it has one."""
    return min([part.lineno, *list_decorator_lines(part)])


def list_decorator_lines(part: ast.AST) -> list[int]:
    """The lines of a function's or a class's decorators; none for anything else."""
    decorators: list[ast.expr] = getattr(part, "decorator_list", [])
    return [node.lineno for node in decorators]


def drop_excused(faults: list[Fault], lines: list[str]) -> list[Fault]:
    """The faults without those that a `# noqa` excuses."""
    return [fault for fault in faults if not is_excused(fault, lines)]


def is_excused(fault: Fault, lines: list[str]) -> bool:
    """Whether the line of a fault holds a `# noqa` for its code, or one for all codes."""
    found = NOQA.search(lines[fault.line - 1]) if fault.line <= len(lines) else None
    if not found:
        return False
    codes = re.split(r"[,\s]+", found[1].upper()) if found[1] else [""]
    return fault.code.startswith(tuple(codes))
