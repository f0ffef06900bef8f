"""Holds a table of uses against the libraries that are installed, and the kit's own source against the table.

Nothing of a library is run: signatures, class bodies and source are read.
"""

import ast
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from library_uses import LIBRARIES, Use

ROOT = Path(__file__).resolve().parents[2]
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Fault:
    """What is no longer so, and the words that name it in the source of who needs it."""

    sentence: str
    words: tuple[str, ...]


def find_differences(uses: Iterable[Use]) -> list[str]:
    """What the installed libraries no longer have of these uses: a sentence each, with the version and who needs it."""
    return [f"{fault.sentence} ({name_version(use)}; used in {', '.join(list_users(use, fault.words, read_kit()))})"
            for use in uses for fault in compare(use)]


def compare(use: Use) -> Iterator[Fault]:
    """What is no longer so with one use."""
    try:
        thing = resolve(use.path)
    except (ImportError, AttributeError) as error:
        yield Fault(f"{use.dotted} is gone: {error}", ())
        return
    if use.value and thing != use.value:
        yield Fault(f"{use.dotted} is {thing!r} and was {use.value!r}", (use.value,))
    if use.base and not issubclass(thing, resolve(use.base)):
        yield Fault(f"{use.dotted} is no {use.base.partition(':')[2]} any more", ())
    if use.arguments is not None:
        yield from compare_call(use, thing)
    yield from (Fault(f"{use.dotted} has no `{name}` any more", (name,))
                for name in use.attributes if not has_attribute(thing, name))
    yield from (Fault(f"{use.dotted} no longer writes the key '{key}'", (key,))
                for key in use.strings if not holds_string(thing, key))


def compare_call(use: Use, thing: Any) -> Iterator[Fault]:
    """Keywords that are not taken any more, and arguments that are missing or too many."""
    signature = inspect.signature(thing)
    readers = [resolve(path) for path in use.read_in]
    lost = [name for name in use.keywords if getattr(signature.parameters.get(name), "kind", None) not in NAMED
            and not any(reads_keyword(reader, name) for reader in readers)]
    yield from (Fault(f"{use.dotted} no longer takes `{name}`", (use.name, name)) for name in lost)
    arguments = [None] * (use.arguments or 0)
    if next(iter(signature.parameters), "") == "self":
        arguments.append(None)
    try:
        signature.bind(*arguments, **{name: None for name in use.keywords if name not in lost})
    except TypeError as error:
        yield Fault(f"{use.dotted} cannot be called as it is: {error}", ())


def resolve(path: str) -> Any:
    """What `module:name.name` names. Raises ImportError or AttributeError."""
    module, _, names = path.partition(":")
    thing: Any = importlib.import_module(module)
    for name in names.split("."):
        thing = getattr(thing, name)
    return thing


def name_version(use: Use) -> str:
    """A library with its installed version; its name alone for a module that is no package."""
    library = use.dotted.partition(".")[0]
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return library


def reads_keyword(reader: Any, name: str) -> bool:
    """Whether a function or a class takes a keyword by name, or reads it out of its `**kwargs`."""
    return name in inspect.signature(reader).parameters or holds_string(reader, name)


def has_attribute(kind: type, name: str) -> bool:
    """Whether instances have an attribute: of the class, declared in its body, set in a method, or by `__getattr__`.

    A tokenizer's `__getattr__` has a list of names, and each with `_id` behind it.
    """
    declared = any(name in vars(part).get("__annotations__", {}) or name in read_set(part) for part in list_parts(kind))
    listed = hasattr(kind, "__getattr__") and holds_string(kind, name.removesuffix("_id"))
    return hasattr(kind, name) or declared or listed


def holds_string(thing: Any, text: str) -> bool:
    """Whether a text stands in the source of a function, or of a class and its bases."""
    return any(text in read_strings(part) for part in list_parts(thing))


def list_parts(thing: Any) -> list[Any]:
    """A class with its bases, or a function alone."""
    return [part for part in inspect.getmro(thing) if part is not object] if inspect.isclass(thing) else [thing]


@cache
def read_tree(thing: Any) -> ast.AST:
    """The source of a class or a function; empty for what is compiled."""
    try:
        return ast.parse(inspect.cleandoc("\n" + inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return ast.Module([], [])


@cache
def read_strings(thing: Any) -> frozenset[str]:
    """Every text that stands in the source of a class or a function."""
    return frozenset(node.value for node in ast.walk(read_tree(thing))
                     if isinstance(node, ast.Constant) and isinstance(node.value, str))


@cache
def read_set(thing: Any) -> frozenset[str]:
    """Attributes of `self` that a class sets."""
    return frozenset(node.attr for node in ast.walk(read_tree(thing))
                     if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))


@cache
def read_kit() -> dict[str, ast.Module]:
    """The kit's modules that import one of the libraries, by path."""
    trees = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
             for path in sorted((ROOT / "synthkit").rglob("*.py")) if "offline/library" not in path.as_posix()}
    return {path: tree for path, tree in trees.items() if read_imports(tree)}


def read_imports(tree: ast.AST) -> dict[str, str]:
    """What a module imports from the libraries: the dotted path by the name that it has there."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [(alias.asname or alias.name.partition(".")[0],
                      alias.name if alias.asname else alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [(alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names]
        else:
            continue
        found |= {name: path for name, path in names if path.partition(".")[0] in LIBRARIES}
    return found


def list_users(use: Use, words: Iterable[str], kit: Mapping[str, ast.Module]) -> list[str]:
    """Modules of the kit that name all of these words, else those that name what they belong to, or a part of it."""
    named = {path: list_names(tree) for path, tree in kit.items()}
    parts = {*use.attributes, *use.strings}
    for wanted in (set(words), {use.value or use.name}, {use.name}):
        if users := [path for path, names in named.items() if wanted and wanted <= names]:
            return users
    return [path for path, names in named.items() if parts & names]


@cache
def list_names(tree: ast.AST) -> frozenset[str]:
    """Every name that a module gives or uses."""
    return frozenset(name for node in ast.walk(tree) for name in name_parts(node))


def name_parts(node: ast.AST) -> set[str]:
    """The names that a piece of source gives."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name) | ast.FunctionDef(name=name):
            return {name}
        case ast.keyword(arg=str(name)) | ast.arg(arg=name):
            return {name}
        case ast.Constant(value=str(text)):
            return {text, text.removesuffix("-*")}
    return set()


def find_unlisted(kit: Mapping[str, ast.Module], uses: Iterable[Use]) -> list[str]:
    """What modules take from the libraries, and calls with keywords or arguments, that the table does not list."""
    table: dict[str, list[Use]] = {}
    for use in uses:
        table.setdefault(use.dotted, []).append(use)
    found = []
    for path, tree in kit.items():
        imports = read_imports(tree)
        missing = [f"{path}: {name} is not in the table" for name in sorted(list_taken(tree, imports))
                   if not any(listed == name or listed.startswith(f"{name}.") for listed in table)]
        found += missing + list(check_calls(path, tree, imports, table))
    return found


def list_taken(tree: ast.AST, imports: Mapping[str, str]) -> set[str]:
    """Every dotted path that a module names: what it imports, and what it takes out of that."""
    return set(imports.values()) | {
        name for node in ast.walk(tree) if isinstance(node, ast.Attribute) and (name := write_dotted(node, imports))}


def write_dotted(node: ast.AST, imports: Mapping[str, str]) -> str:
    """The dotted path of an expression that starts at an imported name; '' for any other."""
    if isinstance(node, ast.Name):
        return imports.get(node.id, "")
    if isinstance(node, ast.Attribute) and (before := write_dotted(node.value, imports)):
        return f"{before}.{node.attr}"
    return ""


def check_calls(
    path: str, tree: ast.AST, imports: Mapping[str, str], table: Mapping[str, list[Use]]
) -> Iterator[str]:
    """Calls of what the table lists that have keywords or arguments which it does not."""
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        held = find_called(node, imports, table)
        if not held:
            continue
        listed, most = {name for use in held for name in use.keywords}, max(use.arguments or 0 for use in held)
        where = f"{path}:{node.lineno}: {held[0].dotted}"
        yield from (f"{where}({keyword.arg}=…) is not in the table" for keyword in node.keywords
                    if keyword.arg and keyword.arg not in listed)
        if len(node.args) > most:
            yield f"{where} is given {len(node.args)} arguments, {most} in the table"


def find_called(node: ast.Call, imports: Mapping[str, str], table: Mapping[str, list[Use]]) -> list[Use]:
    """The calls of the table that one of the kit may be; a method of an object is known by its name alone."""
    libraries = {name.partition(".")[0] for name in imports.values()}
    calls = [use for group in table.values() for use in group if use.arguments is not None]
    if name := write_dotted(node.func, imports):
        return [use for use in calls if use.dotted == name]
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    return [use for use in calls if use.name == method and is_method(use, libraries)]


def is_method(use: Use, libraries: set[str]) -> bool:
    """Whether a use is a method of a class in one of these libraries."""
    return "." in use.path.partition(":")[2] and use.dotted.partition(".")[0] in libraries
