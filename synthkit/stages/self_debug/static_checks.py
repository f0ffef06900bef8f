"""What can be told of a task's scripts and description without running anything."""

import ast
import re
import sys
import threading

from synthkit.records import TaskCode

LIBRARIES = frozenset({"numpy", "pandas", "scipy", "sklearn", "PIL"})
NETWORK = frozenset({"socket", "ssl", "urllib", "http", "ftplib", "smtplib", "xmlrpc", "asyncio", "socketserver"})
ABSOLUTE = re.compile(r"(?:~?/|[A-Za-z]:[\\/])[\w.]")
ANSWERS = "answers.csv"
_parsing = threading.Lock()


class GateRefusal(Exception):
    """A gate refuses a candidate: a typed reason, and the evidence that the teacher is shown.

    `final` says that the fault lies in the data, so that no other code for the same task could pass.
    """

    def __init__(self, reason: str, evidence: str, *, final: bool = False):
        super().__init__(reason)
        self.reason, self.evidence, self.final = reason, evidence, final


def check_static(code: TaskCode) -> None:
    """Raises GateRefusal with no_evaluation, syntax_error, forbidden_import, absolute_path, reads_labels or braces."""
    if not code.evaluate_py.strip():
        raise GateRefusal("no_evaluation", "evaluate_py is empty")
    check_script("baseline.py", code.baseline_py)
    check_script("evaluate.py", code.evaluate_py)
    check_braces(code.description)


def check_script(name: str, source: str) -> None:
    """Raises GateRefusal for a script that is no Python, imports or names what it must not, or reads the labels."""
    tree = parse_script(name, source)
    check_imports(name, tree)
    check_texts(name, tree)
    if ANSWERS in source and name != "evaluate.py":
        raise GateRefusal("reads_labels", f"{name} names {ANSWERS}, which holds the test labels and is not there "
                      "for a solver")


def parse_script(name: str, source: str) -> ast.Module:
    """The syntax tree of a script. Raises GateRefusal with the line that is no Python."""
    try:
        # CPython 3.11 keeps the depth of its tree building per process: parsing in two threads raises SystemError.
        with _parsing:
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        shown = source.splitlines()[line - 1].strip() if line and line <= len(source.splitlines()) else ""
        raise GateRefusal("syntax_error", f"{name}, line {line}: {type(error).__name__}: "
                      f"{getattr(error, 'msg', error)}\n{shown}") from error


def check_imports(name: str, tree: ast.Module) -> None:
    """Only the standard library, its network modules left out, and the libraries that a sandbox has."""
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)):
        modules = [node.module or "."] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        for root in (module.partition(".")[0] for module in modules):
            if root in NETWORK or root not in LIBRARIES | sys.stdlib_module_names:
                allowed = f"allowed are the standard library without network, {', '.join(sorted(LIBRARIES))}"
                raise GateRefusal("forbidden_import", f"{name}, line {node.lineno}: import of {root or '.'}; {allowed}")


def check_texts(name: str, tree: ast.Module) -> None:
    """Raises GateRefusal for an absolute path in a script."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ABSOLUTE.match(node.value):
            raise GateRefusal("absolute_path", f"{name}, line {node.lineno}: the absolute path {node.value!r}; "
                          "paths are relative to the task's folder")


def check_braces(description: str) -> None:
    """The description goes through str.format, as MLGym does it."""
    try:
        description.format(dataset_docs="")
    except (LookupError, ValueError, AttributeError) as error:
        raise GateRefusal("braces", "description: unescaped braces; str.format fails with "
                      f"{type(error).__name__}: {error}. Write literal braces twice: {{{{ }}}}") from error
