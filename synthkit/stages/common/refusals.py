"""What a stage lost, counted by typed reason."""

from collections import Counter
from collections.abc import Iterable
from typing import Any


def count_reasons(rows: Iterable[Any]) -> dict[str, int]:
    """How many rows were lost for each `reason`, the commonest first."""
    counts = Counter(row.reason for row in rows)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
