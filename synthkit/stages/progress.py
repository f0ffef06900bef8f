"""How a long loop shows where it is: through tqdm, or anything called as tqdm is, handed in by the notebook."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
Progress = Callable[..., Iterable[Any]]


def follow(progress: Progress | None, items: Iterable[Item], total: int, done: int = 0) -> Iterator[Item]:
    """The items as they come, through `progress(items, total=, initial=)` when there is one."""
    yield from items if progress is None else progress(items, total=total, initial=done)
