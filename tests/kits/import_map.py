"""Who imports whom in a package, read from its files: `python tests/kits/import_map.py [ROOT]` prints the figures.

Every import counts, those inside functions and those for type checking too. A package's face (`__init__.py`) that only
hands names on is passed through: who imports from it imports the modules that the names come from.
"""

import ast
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "synthkit"
DATA = ("offline/library/", "offline/held_out/", "in_sandbox/")  # Not modules of the package: nothing imports them.


@dataclass(frozen=True)
class ImportMap:
    """The modules of a package and their imports of one another, by dotted names."""

    root: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every module's file by its dotted name."""
        found = {}
        for path in sorted((self.root / PACKAGE).rglob("*.py")):
            place = path.relative_to(self.root)
            if not any(part in place.as_posix() for part in DATA):
                found[".".join(place.with_suffix("").parts).removesuffix(".__init__")] = path
        return found

    @cached_property
    def faces(self) -> dict[str, dict[str, str]]:
        """Of each package's own file: the module that each of its names comes from."""
        return {name: {alias.asname or alias.name: node.module or ""
                       for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom) for alias in node.names}
                for name, path in self.files.items() if path.name == "__init__.py"}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """What each module imports of the package; faces stand for what they hand on."""
        return {name: {target for target in self._list_targets(path) if target != name}
                for name, path in self.files.items() if path.name != "__init__.py"}

    def _list_targets(self, path: Path) -> set[str]:
        found = set()
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {self._find_source(node.module, alias.name) for alias in node.names}
        return {name for name in found if name in self.files and self.files[name].name != "__init__.py"}

    def _find_source(self, module: str, name: str) -> str:
        """The module that a name comes from that is imported from `module`."""
        if f"{module}.{name}" in self.files:
            return f"{module}.{name}"
        return self.faces.get(module, {}).get(name) or module


@dataclass(frozen=True)
class Figures:
    """How many rooms there are, on how many levels, with how many arrows between them; a circle, if there is one."""

    rooms: int
    levels: int
    arrows: int
    circle: tuple[str, ...]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def group_rooms(imports: Mapping[str, Iterable[str]], folder: str) -> dict[str, set[str]]:
    """The rooms directly in a folder (modules, and folders as one room each) and which of them each one imports."""
    prefix = f"{folder}."
    rooms: dict[str, set[str]] = {}
    for name, targets in imports.items():
        if name.startswith(prefix):
            room = name.removeprefix(prefix).partition(".")[0]
            there = {target.removeprefix(prefix).partition(".")[0] for target in targets if target.startswith(prefix)}
            rooms.setdefault(room, set()).update(there - {room})
    return rooms


def find_circle(imports: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """A circle of imports, or nothing."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return tuple(error.args[1])
    return ()


def measure(rooms: Mapping[str, set[str]]) -> Figures:
    """The figures of a folder's rooms; levels count 0 where there is a circle."""
    circle = find_circle(rooms)
    levels: dict[str, int] = {}
    for room in () if circle else TopologicalSorter(rooms).static_order():
        levels[room] = 1 + max((levels[below] for below in rooms.get(room, ())), default=0)
    return Figures(len(rooms), max(levels.values(), default=0), sum(map(len, rooms.values())), circle)


def main(root: Path) -> None:
    found = ImportMap(root)
    for folder in (PACKAGE, *(f"{PACKAGE}.{name}" for name in ("core", "gym", "stages", "show", "export"))):
        figures = measure(group_rooms(found.imports, folder))
        print(f"{folder:16} {figures.rooms:3} rooms  {figures.levels:2} levels  {figures.arrows:3} arrows  "
              f"{' -> '.join(figures.circle)}")
    print("circle of modules:", " -> ".join(find_circle(found.imports)) or "none")


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "."))
