"""The grid that topics are drawn from: area x modality x task type x difficulty, read from a YAML that a user edits."""

from collections import Counter
from itertools import product

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synthkit.core.errors import StageError
from synthkit.core.paths import find_root
from synthkit.records import Cell
from synthkit.stages.common.seeds import derive_seed


class Area(BaseModel):
    """What belongs to one area of the grid."""

    model_config = ConfigDict(extra="forbid")

    modalities: list[str] = Field(min_length=1)
    task_types: list[str] = Field(min_length=1)


class Grid(BaseModel):
    """The areas with what belongs to each; difficulties are the same for all."""

    model_config = ConfigDict(extra="forbid")

    difficulties: list[str] = Field(min_length=1)
    areas: dict[str, Area] = Field(min_length=1)

    def cells(self) -> list[Cell]:
        """Every cell, in the order of the file."""
        return [Cell(area=name, modality=modality, task_type=task_type, difficulty=difficulty)
                for name, area in self.areas.items()
                for modality, task_type, difficulty in product(area.modalities, area.task_types, self.difficulties)]


def read_grid(name: str) -> Grid:
    """The grid in a YAML file, relative to the repository's root.

    Raises StageError naming the file and every fault in it.
    """
    path = find_root() / name
    if not path.is_file():
        raise StageError(f"01_topics: there is no grid {name}", "set topics.grid to a YAML file of the repository")
    try:
        return Grid.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise StageError(f"01_topics: the grid {name} is not valid: {error}",
                         "it holds `difficulties` and `areas`, each area `modalities` and `task_types`") from error


def deal_cells(grid: Grid, asked: list[Cell], n: int, seed: int) -> list[Cell]:
    """The next `n` cells: always of the area asked for least, in it the cell asked for least, ties by the seed."""
    cells = grid.cells()
    areas = Counter(cell.area for cell in asked)
    times = Counter(cell.key for cell in asked)
    tie = {cell.key: derive_seed(seed, "cell", *cell.key) for cell in cells}
    area_tie = {name: derive_seed(seed, "area", name) for name in grid.areas}
    dealt = []
    for _ in range(n):
        cell = min(cells, key=lambda c: (areas[c.area], area_tie[c.area], times[c.key], tie[c.key]))
        areas[cell.area] += 1
        times[cell.key] += 1
        dealt.append(cell)
    return dealt
