"""How a long loop shows where it is: through tqdm, or anything called as tqdm is, handed in by the notebook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Bar(Protocol):
    """A bar that is on show."""

    def update(self, n: int) -> Any:
        """Move it on by `n` items."""

    def close(self) -> Any:
        """Leave it as it is; nothing follows."""


Progress = Callable[..., Bar]


@contextmanager
def show_progress(progress: Progress | None, total: int, done: int = 0) -> Iterator[Callable[[int], Any]]:
    """What to call with the number of items that have just ended; the bar is closed with the block."""
    if progress is None:
        yield lambda n: None
        return
    bar = progress(total=total, initial=done)
    try:
        yield bar.update
    finally:
        bar.close()
