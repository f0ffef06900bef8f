"""Where the held-out benchmark lies: the embedded one, or an MLGym checkout."""

from pathlib import Path

from synthkit.core.endpoints import EMBEDDED, embedded_benchmark
from synthkit.core.paths import find_root


def find_benchmark(where: str) -> Path:
    """The root of the benchmark's tasks; `where` is 'embedded' or a folder, relative to the repository's root."""
    return embedded_benchmark() if where == EMBEDDED else find_root() / where
