"""The editor of a sandbox: MLGym's commands on one open file with a window of lines. Runs beside guest.py, inside.

Only the standard library. The commands, their window and its overlap are MLGym's (facts of v0.1.1, tools/).
"""

import fnmatch
import os
import re
import signal
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    # Side by side in a sandbox, a package for the type checker.
    from synthkit.gym.sandbox.in_sandbox.guest_window import Window
else:
    from guest_window import Window

MAX_HITS = 100
MAX_SECONDS = 15
MAX_FAULTS = 10
MAX_FILE_BYTES = 16 << 20


class EditorError(Exception):
    """What an editor command answers instead of doing its work."""


def give_up(number: int, frame: object) -> None:
    """The handler of SIGALRM. Raises EditorError in the command that took too long."""
    raise EditorError(f"This took longer than {MAX_SECONDS} seconds: name a smaller folder, or a simpler text.")


class Editor:
    """One open file and a window on it. `find_folder` gives the folder that relative paths start from."""

    def __init__(self, find_folder: Callable[[], str], output_bytes: int):
        self.find_folder = find_folder
        self.path = ""
        self.window = Window(output_bytes)

    def call(self, name: str, args: list[str], text: str | None) -> dict[str, Any]:
        """Run one command. What it refuses or cannot do is its output too, with exit code 1."""
        signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
        try:
            return {"output": self.dispatch(name, args, text), "exit_code": 0, "timed_out": False}
        except EditorError as error:
            output = str(error)
        except OSError as error:
            output = f"{name}: {error.filename or 'file'}: {error.strerror}"
        except ValueError as error:
            # A name with a NUL, or half a character.
            output = f"{name}: {error}"
        except RecursionError:
            output = f"{name}: the folders are nested too deeply."
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return {"output": output, "exit_code": 1, "timed_out": False}

    def dispatch(self, name: str, args: list[str], text: str | None) -> str:
        """The output of one command. Raises EditorError for an unknown one or a wrong number of arguments."""
        if name in ("edit", "insert"):
            return self.change(name, args, text)
        commands: dict[str, tuple[Callable[..., str], str]] = {
            "open": (self.open, "<path> [<line>]"), "goto": (self.goto, "<line>"),
            "scroll_up": (self.scroll_up, ""), "scroll_down": (self.scroll_down, ""),
            "create": (self.create, "<path>"), "search_dir": (self.search_dir, "<text> [<folder>]"),
            "search_file": (self.search_file, "<text> [<path>]"), "find_file": (self.find_file, "<name> [<folder>]"),
        }
        if name not in commands:
            raise EditorError(f"There is no command {name}.")
        command, form = commands[name]
        most = form.count("<")
        if not most - form.count("[") <= len(args) <= most:
            raise EditorError(f"Write it as: {name} {form}".rstrip())
        return command(*args)

    def resolve(self, path: str) -> str:
        """The full path of one that starts at the shell's folder, or at home with ~."""
        return os.path.normpath(os.path.join(self.find_folder(), os.path.expanduser(path)))

    def lines(self) -> list[str]:
        """The lines of the open file as it is now. Raises EditorError when none is open."""
        if not self.path:
            raise EditorError("No file is open: use open first.")
        return split_lines(read_text(self.path))

    def show(self, lines: list[str]) -> str:
        """The open file's window as the agent sees it."""
        return self.window.render(self.path, lines)

    def open(self, path: str, line: str = "1") -> str:
        """Open a file and show it from about a line on. Raises EditorError for a folder or a line that is not there."""
        path = self.resolve(path)
        if os.path.isdir(path):
            raise EditorError(f"{path} is a folder: list it with ls.")
        lines, number = split_lines(read_text(path)), read_number(line)
        check_line(number, lines)
        self.path = path
        self.window.turn_to(lines, number)
        return self.show(lines)

    def goto(self, line: str) -> str:
        """Show the open file from about a line on. Raises EditorError for a line that is not there."""
        lines, number = self.lines(), read_number(line)
        check_line(number, lines)
        self.window.turn_to(lines, number)
        return self.show(lines)

    def scroll_down(self) -> str:
        """Show the next window of the open file, which begins with the last lines of this one."""
        lines = self.lines()
        self.window.scroll_down(lines)
        return self.show(lines)

    def scroll_up(self) -> str:
        """Show the window before, which ends with the first lines of this one."""
        lines = self.lines()
        self.window.scroll_up(lines)
        return self.show(lines)

    def create(self, path: str) -> str:
        """Make a file of one empty line and open it; one that exists is opened as it is."""
        path = self.resolve(path)
        if os.path.exists(path):
            return f"{path} exists already, and was opened.\n{self.open(path)}"
        with open(path, "x", encoding="utf-8") as file:
            file.write("\n")
        return self.open(path)

    def search_dir(self, term: str, folder: str = ".") -> str:
        """The files below a folder with lines that match, counted. Raises EditorError for none or more than 100."""
        folder = self.resolve(folder)
        pattern = read_pattern(term)
        hits = {path: count for path in walk_files(folder) if (count := count_hits(path, pattern))}
        if not hits:
            raise EditorError(f"{term!r} is in no file below {folder}.")
        if len(hits) > MAX_HITS:
            raise EditorError(f"{term!r} is in {len(hits)} files below {folder}: search for something rarer.")
        rows = [f"{path} ({count} lines)" for path, count in sorted(hits.items())]
        return "\n".join([f"{term!r} was found in {len(hits)} files below {folder}:", *rows])

    def search_file(self, term: str, path: str = "") -> str:
        """The lines of a file, or the open one, that match. Raises EditorError for none or more than 100."""
        if not path and not self.path:
            raise EditorError("No file is open: name one.")
        path = self.resolve(path) if path else self.path
        search = read_pattern(term).search
        hits = [f"{number}:{line}" for number, line in enumerate(split_lines(read_text(path)), 1) if search(line)]
        if not hits:
            raise EditorError(f"{term!r} is not in {path}.")
        if len(hits) > MAX_HITS:
            raise EditorError(f"{term!r} is in {len(hits)} lines of {path}: search for something rarer.")
        return "\n".join([f"{term!r} was found in {len(hits)} lines of {path}:", *hits])

    def find_file(self, name: str, folder: str = ".") -> str:
        """The files below a folder with a name or a pattern of it. Raises EditorError for none or more than 100."""
        folder = self.resolve(folder)
        hits = sorted(path for path in walk_files(folder) if fnmatch.fnmatch(os.path.basename(path), name))
        if not hits:
            raise EditorError(f"No file below {folder} is called {name!r}.")
        if len(hits) > MAX_HITS:
            raise EditorError(f"{len(hits)} files below {folder} are called {name!r}: narrow the name down.")
        return "\n".join([f"{len(hits)} files below {folder} are called {name!r}:", *hits])

    def change(self, name: str, args: list[str], text: str | None) -> str:
        """edit <first>:<last> and insert <line>: not made when they bring a fault into a Python file."""
        if text is None:
            form = "edit <first>:<last>" if name == "edit" else "insert <line>"
            raise EditorError(f"Nothing was changed. Write `{form}`, the new lines, and end_of_{name} on its own line.")
        lines = self.lines()
        first, last = read_range(name, args, len(lines))
        written = text.split("\n") if text else []
        new = [*lines[:first - 1], *written, *lines[last:]]
        faults, gap = find_new_faults(self.path, lines, new, (first, last, len(written)))
        if faults:
            raise EditorError(self.explain(faults, lines, new, first))
        write_text(self.path, new)
        self.window.fill(new)
        if new and not self.window.shows(min(first, len(new))):
            self.window.turn_to(new, min(first, len(new)))
        return f"{self.show(new)}\n(the file was changed{gap and '; '}{gap})"

    def explain(self, faults: list[str], lines: list[str], new: list[str], at: int) -> str:
        """Why a change was not made: its faults, and both texts around line `at`."""
        before, after = ("\n".join(number_lines(part, at)) for part in (lines, new))
        more = [f"({len(faults) - MAX_FAULTS} more)"] if len(faults) > MAX_FAULTS else []
        listed = "\n".join(["The change was not made, for it would bring these faults into the file:",
                            *faults[:MAX_FAULTS], *more])
        return f"{listed}\nIt would have looked like this:\n{after}\nThe file still looks like this:\n{before}"


def find_new_faults(path: str, old: list[str], new: list[str], place: tuple[int, int, int]) -> tuple[list[str], str]:
    """(the faults that an edit brings into a Python file, what could not be checked). `place`: see find_new."""
    if not path.endswith(".py"):
        return [], ""
    # Here: what it imports would slow every session's start.
    if TYPE_CHECKING:
        from synthkit.gym.sandbox.in_sandbox import guest_lint
    else:
        import guest_lint
    after = guest_lint.check_python(join_lines(new))
    if not after.faults:
        return [], after.gap
    before = guest_lint.check_python(join_lines(old))
    added = guest_lint.find_new(before.faults, after.faults, *place)
    return [f"line {fault.line}: {fault.code} {fault.text}" for fault in added], after.gap


def split_lines(text: str) -> list[str]:
    """The lines of a text; the empty one behind a final newline does not count."""
    lines = text.split("\n")
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def join_lines(lines: list[str]) -> str:
    """The text of lines, each with its newline."""
    return "".join(f"{line}\n" for line in lines)


def check_line(number: int, lines: list[str]) -> None:
    """Raises EditorError when a file has no line of this number, counted from 1."""
    if not 1 <= number <= len(lines):
        raise EditorError(f"There is no line {number}: the file has {len(lines)}.")


def number_lines(lines: list[str], at: int, around: int = 8) -> list[str]:
    """The lines up to `around` before and behind line `at`, each with its number."""
    first, last = max(1, at - around), min(len(lines), at + around)
    return [f"{number}:{lines[number - 1]}" for number in range(first, last + 1)]


def read_number(text: str) -> int:
    """The number of a line from an argument. Raises EditorError when it is none."""
    if not re.fullmatch(r"\d{1,9}", text):
        raise EditorError(f"{text!r} is not a line number.")
    return int(text)


def read_range(name: str, args: list[str], count: int) -> tuple[int, int]:
    """(first line to replace, last line to replace), 1-based; an insert replaces none."""
    if name == "insert" and len(args) == 1 and args[0].isdecimal():
        line = read_number(args[0])
        if line > count:
            raise EditorError(f"There is no line {line} to insert after: the file has {count}.")
        return line + 1, line
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", " ".join(args)) if name == "edit" else None
    if not match:
        raise EditorError("Name the lines as `edit <first>:<last>`, or the line to insert after as `insert <line>`.")
    first, last = int(match[1]), int(match[2])
    if not 1 <= first <= last <= count:
        raise EditorError(f"There are no lines {first}:{last}: the file has {count}.")
    return first, last


def read_text(path: str) -> str:
    """A file's text; bytes that are no UTF-8 are kept as surrogates.

    Raises EditorError for what is no regular file, has more than 16 MiB, or holds a NUL early on; OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise EditorError(f"{path} is not a regular file.")
        if info.st_size > MAX_FILE_BYTES:
            raise EditorError(f"{path} is too large for the editor ({info.st_size} bytes).")
        data = file.read(MAX_FILE_BYTES)
    if b"\0" in data[:4096]:
        raise EditorError(f"{path} is not a text file.")
    return data.decode("utf-8", "surrogateescape")


def write_text(path: str, lines: list[str]) -> None:
    """Replace a file's text, and bring the old one back when there is no room for the new one."""
    try:
        data = join_lines(lines).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise EditorError("The new text holds half a surrogate pair, which no file can.") from error
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    with open(fd, "r+b", buffering=0) as file:
        old = file.read()
        try:
            # Over the old text and not after cutting it off: what that takes up stays ours until the new one is there.
            replace_bytes(file, data)
        except OSError:
            replace_bytes(file, old)
            raise


def replace_bytes(file: BinaryIO, data: bytes) -> None:
    """Write a file's new content over the old one, then cut off what is left of that."""
    file.seek(0)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest):]
    file.truncate(len(data))


def read_pattern(term: str) -> re.Pattern[str]:
    """A search term as grep would take it, or as plain text where it is no pattern."""
    try:
        return re.compile(term)
    except (re.error, RecursionError, OverflowError):
        return re.compile(re.escape(term))


def count_hits(path: str, pattern: re.Pattern[str]) -> int:
    """How many lines of a file match; 0 for one that cannot be read."""
    try:
        return sum(pattern.search(line) is not None for line in read_text(path).split("\n"))
    except (EditorError, OSError):
        return 0


def walk_files(folder: str) -> list[str]:
    """Regular files below a folder; hidden ones and links left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    return [path for path in found if is_regular(path)]


def is_regular(path: str) -> bool:
    """Whether a path is a regular file itself, and not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        # It has gone while others were looked at.
        return False
