"""What became of all that a stage was asked for, counted by typed reason."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from synthkit.core.errors import StageError
from synthkit.core.stage import Stage


class Funnel(NamedTuple):
    """Items asked for, kept, refused by reason and owed by reason; the last three add up to the first."""

    requested: int
    kept: int
    refused: dict[str, int]
    owed: dict[str, int]

    def check(self, stage: Stage, nothing_kept: str, fix: str) -> None:
        """Raises StageError when nothing was kept, with this cause and fix, or when an item has no outcome."""
        if not self.kept:
            raise StageError(f"{stage.name}: {nothing_kept}; refused: {self.refused}", fix)
        ended = self.kept + sum(self.refused.values()) + sum(self.owed.values())
        if ended != self.requested:
            raise StageError(f"{stage.name}: {self.requested} asked for, but {ended} have an outcome: {self.kept} "
                             f"kept, {sum(self.refused.values())} refused", "run the stage again")

    def finish(self, stage: Stage, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Write the stage's completion record with these counts; see Stage.finish."""
        return stage.finish(self.requested, self.kept, self.refused, metrics, owed=self.owed)


def count_reasons(rows: Iterable[Any]) -> dict[str, int]:
    """How many rows have each `reason`, the commonest first."""
    counts = Counter(row.reason for row in rows)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
