"""The editor's window on a file: MLGym's 1000 lines, and no more bytes than an observation can show.

Without the second limit the middle of a long window would be cut out of the observation, and could not be reached.
Runs beside guest_editor.py, inside; only the standard library.
"""

LINES = 1000
OVERLAP = 2
ROOM = 400  # What stands around a window in an observation.


class Window:
    """The lines from `first` to `last`, counted from 1."""

    def __init__(self, output_bytes: int):
        self.first, self.last = 1, 0
        self.bytes = max(ROOM, output_bytes - ROOM)

    def turn_to(self, lines: list[str], line: int) -> None:
        """Move so that a line stands about a sixth below the top."""
        self.first = extend(lines, line, -1, LINES // 6 + 1, self.bytes // 6)
        self.fill(lines)

    def fill(self, lines: list[str]) -> None:
        """Take in the lines down from `first`, and where the file ends sooner, lines above it too."""
        if not lines:
            self.first, self.last = 1, 0
            return
        self.first = max(1, min(self.first, len(lines)))
        self.last = extend(lines, self.first, 1, LINES, self.bytes)
        if self.last == len(lines):
            self.first = min(self.first, extend(lines, self.last, -1, LINES, self.bytes))

    def scroll_down(self, lines: list[str]) -> None:
        """Move down so that the last OVERLAP lines become the first ones."""
        self.first = max(self.first + 1, self.last - OVERLAP + 1)
        self.fill(lines)

    def scroll_up(self, lines: list[str]) -> None:
        """Move up so that the first OVERLAP lines become the last ones."""
        end = min(len(lines), max(1, self.first + OVERLAP - 1))
        self.first = min(max(1, self.first - 1), extend(lines, end, -1, LINES, self.bytes))
        self.fill(lines)

    def shows(self, line: int) -> bool:
        """Whether a line is within the window."""
        return self.first <= line <= self.last

    def render(self, path: str, lines: list[str]) -> str:
        """The window as text: a head, what is above, the numbered lines, what is below."""
        above, below = self.first - 1, len(lines) - self.last
        shown = [f"[File: {path} ({len(lines)} lines total)]"]
        shown += [f"({above} more lines above)"] if above else []
        shown += [f"{number}:{lines[number - 1]}" for number in range(self.first, self.last + 1)]
        shown += [f"({below} more lines below)"] if below else []
        return "\n".join(shown)


def extend(lines: list[str], line: int, step: int, most_lines: int, most_bytes: int) -> int:
    """The farthest line that can stand in one window with `line`, upwards (`step` -1) or downwards (1).

    At least `line` itself, even where it alone has more than `most_bytes`.
    """
    left = most_bytes - measure(lines, line)
    count = 1
    while 1 <= line + step <= len(lines) and count < most_lines and left >= measure(lines, line + step):
        line += step
        left -= measure(lines, line)
        count += 1
    return line


def measure(lines: list[str], line: int) -> int:
    """Bytes that a line takes in a window, with its number and what stands around it."""
    return len(lines[line - 1].encode(errors="replace")) + len(str(line)) + 2
