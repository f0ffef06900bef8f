"""A progress bar that one cell shows and updates in place, in JupyterLab and in a notebook that papermill executes."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from IPython.display import HTML, display

from synthkit.show.text import escape_text

Item = TypeVar("Item")
_STYLE = 'style="font-size:12px;color:#6a707b"'


class Progress:
    """What a stage's `run` takes as `progress`: it follows a loop as tqdm does, or is told how far it is.

    Updates at most every 0.2 s, since each one is a message to the browser and, in a headless run, a write.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._handle = display(HTML(""), display_id=True)
        self._next = 0.0

    def __call__(self, items: Iterable[Item] | int | str, total: int = 0, initial: int = 0) -> Iterable[Item]:
        """The items as they pass; or nothing, when told a number of `total` or a line of text to show."""
        if isinstance(items, str):
            self._show(f"{self.what}: {items}")
        elif isinstance(items, int):
            self._show_bar(items, total, last=items == total)
        else:
            return self._follow(items, total, initial)
        return ()

    def _follow(self, items: Iterable[Item], total: int, initial: int) -> Iterator[Item]:
        done = initial
        self._show_bar(done, total)
        for done, item in enumerate(items, start=initial + 1):
            yield item
            self._show_bar(done, total)
        self._show_bar(done, total, last=True)

    def _show_bar(self, done: int, total: int, last: bool = False) -> None:
        bar = f'<progress value="{done}" max="{max(total, 1)}" style="width:22em"></progress>'
        self._show(f"{done} of {total} {self.what}", bar, last)

    def _show(self, text: str, bar: str = "", last: bool = False) -> None:
        if self._handle is None or (time.monotonic() < self._next and not last):
            return
        self._next = time.monotonic() + 0.2
        self._handle.update(HTML(f"<div {_STYLE}>{bar} {escape_text(text)}</div>"))
