"""What a stage lost, counted by typed reason."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

RETRIED = "internal_error"  # A fault of ours, not of the item: tried again at the next run.


def count_reasons(rows: Iterable[Any]) -> dict[str, int]:
    """How many rows were lost for each `reason`, the commonest first."""
    counts = Counter(row.reason for row in rows)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
