"""Writes what parameters mean where they are read: above the keys of params/base.yaml, behind a notebook's parameters.

The text is that of the models' fields, so it is written once. After a change there:

    python -m synthkit.core.describe_params
"""

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from synthkit.core.params import STAGES, SpreadParams, StageParams
from synthkit.core.paths import find_root
from synthkit.core.profiles import SECTIONS, SHARED

WIDTH = 120
KEY = re.compile(r"( *)(\w+):(?: |$)")
NOTE = re.compile(r" \((?:paper|ours): [^()]*\)(?=\.$)")  # At the end of a notebook's comment: why this value.


def find_sections() -> dict[str, type[BaseModel]]:
    """The model of each section of a params file."""
    shared = {name: find_model(find_stage(name), name) for name in SHARED}
    return {"run": SpreadParams, **shared, **{section: STAGES[name] for section, name in SECTIONS.items()}}


def find_stage(name: str) -> type[StageParams]:
    """The first stage that has a field of this name."""
    return next(model for model in STAGES.values() if name in model.model_fields)


def find_model(model: type[BaseModel], name: str) -> type[BaseModel]:
    """The model that is the type of a field. Raises StopIteration where there is none."""
    kind = model.model_fields[name].annotation
    return next(part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, BaseModel))


def describe_key(path: tuple[str, ...]) -> str:
    """What a key of a params file means; `path` begins with the section."""
    section, *names = path
    if not names and section in SHARED:
        return describe_field(find_stage(section), section)
    model = find_sections()[section]
    if not names:
        return " ".join(((StageParams if section == "run" else model).__doc__ or "").split())
    for name in names[:-1]:
        model = find_model(model, name)
    return describe_field(model, names[-1])


def describe_field(model: type[BaseModel], name: str) -> str:
    """The whole description of a field; empty where it has none."""
    return model.model_fields[name].description or ""


def take_gist(description: str) -> str:
    """The first sentence of a description."""
    gist, dot, _ = description.partition(". ")
    return gist + dot.strip()


def write_yaml_comments(text: str) -> str:
    """A params file with each key's description above it.

    Values, their order and the comments behind them stay, and so does what stands above the first section.
    """
    header, gap, body = text.partition("\n\n")
    lines: list[str] = []
    path: list[str] = []
    for line in body.splitlines():
        if line.lstrip().startswith("#"):
            continue
        if key := KEY.match(line):
            indent = key[1]
            path = [*path[:len(indent) // 2], key[2]]
            lines += textwrap.wrap(describe_key(tuple(path)), WIDTH, initial_indent=f"{indent}# ",
                                   subsequent_indent=f"{indent}# ", break_on_hyphens=False)
        lines.append(line)
    return header + gap + "\n".join(lines) + "\n"


def write_cell_comments(source: str, model: type[BaseModel]) -> str:
    """A notebook's parameters cell with the gist of its description behind each parameter.

    A note on the value that ends the comment stays, such as "(paper: 256)".
    """
    lines = source.split("\n")
    for name, line in list_parameters(source):
        code, _, comment = lines[line].partition("  # ")
        note = NOTE.search(comment)
        gist = take_gist(describe_field(model, name)).removesuffix(".")
        lines[line] = f"{code}  # {gist}{note[0] if note else ''}."
    return "\n".join(lines)


def list_parameters(source: str) -> Iterator[tuple[str, int]]:
    """(name, line on which its value ends) of each parameter of a cell."""
    for node in ast.parse(source).body:
        assert isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        yield node.targets[0].id, (node.end_lineno or 1) - 1


def write_base(root: Path) -> None:
    """Write the comments of params/base.yaml anew, in place."""
    path = root / "params" / "base.yaml"
    path.write_text(write_yaml_comments(path.read_text(encoding="utf-8")), encoding="utf-8")


def write_notebook(path: Path, model: type[BaseModel]) -> None:
    """Write the comments of a notebook's parameters cell anew, in place.

    Raises StopIteration for a notebook without such a cell."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    cell["source"] = write_cell_comments("".join(cell["source"]), model).splitlines(keepends=True)
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_base(find_root())
    for name, model in STAGES.items():
        write_notebook(find_root() / "notebooks" / f"{name}.ipynb", model)
