"""The hash of a stage's code: its module and all of the package that it reaches, without comments and docstrings.

It is taken of syntax trees, so that neither a comment nor a new line marks a finished run as made by other code. Files
that run inside a sandbox are not imported by anything; they count when a module that is reached names them.
"""

import ast
import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
NAME = PACKAGE.name
# What shows, exports or starts results does not make them; the embedded services are part of the fingerprint.
OUTSIDE = ("offline", "show", "export")
IN_SANDBOX = "in_sandbox"  # Folders of files that are copied into a sandbox; nothing imports them.
TEMPLATES = "gym/scoring/templates"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def hash_code(stage_name: str) -> str:
    """The hash of the code that a stage, such as '03_codegen', runs."""
    digest = hashlib.sha256()
    for name, path in sorted(reach_files(PACKAGE, f"stages/{stage_name[3:]}").items()):
        content = hash_syntax(path) if path.suffix == ".py" else hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()[:16]


def reach_files(package: Path, start: str) -> dict[str, Path]:
    """All files of the package whose code can run when the module `start` does, by their place in it."""
    there = list_modules(package)
    reached: dict[str, Path] = {}
    waiting = {start}
    while waiting:
        name = waiting.pop()
        path = reached[name] = there[name]
        waiting |= (find_imports(name, path) | find_named(path, there)) & there.keys() - reached.keys()
    if any(name.startswith("gym/") for name in reached):
        reached |= {f"{TEMPLATES}/{path.name}": path for path in (package / TEMPLATES).iterdir() if path.is_file()}
    return reached


def list_modules(package: Path) -> dict[str, Path]:
    """The package's modules by their place in it without `.py`; a package's own file by its folder."""
    found = {}
    for where, folders, names in os.walk(package):
        place = os.path.relpath(where, package)
        if place == ".":
            folders[:] = [name for name in folders if name not in OUTSIDE]
        for name in (name for name in names if name.endswith(".py")):
            module = os.path.normpath(f"{place}/{name[:-3]}")
            found[module.removesuffix("/__init__")] = Path(where, name)
    return found


def find_imports(place: str, path: Path) -> set[str]:
    """The places of what a file imports anywhere in it, the packages around that included."""
    found = set()
    for name in read_code(path).imports:
        parts = name.split(".")
        if parts[0] == NAME:
            found |= {"/".join(parts[1:end]) for end in range(2, len(parts) + 1)}
        elif runs_in_sandbox(place):  # These import each other by their bare names.
            found.add(f"{place.rpartition('/')[0]}/{parts[0]}")
    return found


def find_named(path: Path, there: Iterable[str]) -> set[str]:
    """The places of files that run inside a sandbox and that a file names by a string."""
    names = {name.removesuffix(".py") for name in read_code(path).names}
    return {place for place in there if runs_in_sandbox(place) and place.rpartition("/")[2] in names}


def runs_in_sandbox(place: str) -> bool:
    """Whether a module, by its place in the package, is copied into a sandbox rather than imported."""
    return f"/{IN_SANDBOX}/" in place


def hash_syntax(path: Path) -> str:
    """The hash of a file's syntax tree; of its bytes where that is no Python."""
    return read_code(path).hash


class Code:
    """What is read of a Python file, once: the hash of its tree, what it imports, and the file names in it."""

    def __init__(self, source: bytes):
        self.imports: set[str] = set()
        self.names: set[str] = set()
        self.parts: list[str] = []
        try:
            self.read(ast.parse(source))
            content = "\0".join(self.parts).encode("utf-8", "surrogatepass")
        except (SyntaxError, ValueError):
            content = source
        self.parts.clear()
        self.hash = hashlib.sha256(content).hexdigest()

    def read(self, node: ast.AST) -> None:
        """Take in a tree. What is absent is left out, so that Pythons whose trees have more fields agree."""
        parts = self.parts
        parts.append(type(node).__name__)
        if isinstance(node, ast.Constant):
            parts.append(repr(node.value))
            if isinstance(node.value, str) and node.value.removesuffix(".py").isidentifier():
                self.names.add(node.value)
            return
        if isinstance(node, DOCUMENTED) and has_docstring(node):
            node.body = node.body[1:]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self.imports.update(list_imports(node))
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == []:
                continue
            parts.append(name)
            for part in value if isinstance(value, list) else (value,):
                if isinstance(part, ast.AST):
                    self.read(part)
                else:
                    parts.append(repr(part))
        parts.append(")")


def read_code(path: Path) -> Code:
    """What a Python file says, read again only when its size or its time has changed."""
    state = path.stat()
    return read_version(path, state.st_size, state.st_mtime_ns)


@cache
def read_version(path: Path, size: int, mtime_ns: int) -> Code:
    """The file as it is now; `size` and `mtime_ns` only tell this version from others in the cache."""
    return Code(path.read_bytes())


def list_imports(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Dotted names of what may be a module; the package uses no relative imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.level or not node.module:
        return []
    return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]


def has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a body begins with a text that nobody uses, which the hash leaves out."""
    return bool(node.body) and isinstance(first := node.body[0], ast.Expr) and isinstance(first.value, ast.Constant) \
        and isinstance(first.value.value, str)
