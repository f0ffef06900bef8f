"""A progress bar that one cell shows and updates in place, in JupyterLab and in a notebook that papermill executes."""

import time

from IPython.display import HTML, display

from synthkit.show.text import escape_text

_STYLE = 'style="font-size:12px;color:#6a707b"'


class Progress:
    """The bar that a notebook hands to a stage's `run`, which uses it as it would use tqdm.

    The stage calls it with `total` and `initial`, then `update` as items end, then `close` (core/progress.py). The
    cell changes at most every 0.2 s: each change is a message to the browser and, in a headless run, a write.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._handle = display(HTML(""), display_id=True)
        self._next, self._done, self._total = 0.0, 0, 0

    def __call__(self, total: int, initial: int = 0) -> "Progress":
        """Show the bar with `initial` of `total` items done."""
        self._done, self._total = initial, total
        self._show(at_once=True)
        return self

    def update(self, n: int = 1) -> None:
        """Count `n` more items as done."""
        self._done += n
        self._show()

    def close(self) -> None:
        """Show where the loop ended."""
        self._show(at_once=True)

    def _show(self, at_once: bool = False) -> None:
        if self._handle is None or (time.monotonic() < self._next and not at_once):
            return
        self._next = time.monotonic() + 0.2
        bar = f'<progress value="{self._done}" max="{max(self._total, 1)}" style="width:22em"></progress>'
        text = escape_text(f"{self._done} of {self._total} {self.what}")
        self._handle.update(HTML(f"<div {_STYLE}>{bar} {text}</div>"))
