"""Records on disk: JSON lines that survive an interruption, and JSON files that are whole or absent.

While a stage works, each record is appended at once, so nothing finished is lost. At its end the file
is written anew in a fixed order, so that an interrupted and an uninterrupted run leave the same bytes.
Every record says in which format it is; one of another format is refused, never half read.
"""

import errno
import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import BaseModel, ValidationError

from synthkit.core.errors import DiskFullError, RecordError
from synthkit.core.faults import write_faults

M = TypeVar("M", bound=BaseModel)
FORMAT = 3  # Of all that a run leaves. 2 called refused rows rejected or lost; 1 had no number and knew nothing owed.
SQLITE_FULL = ("database or disk is full", "disk I/O error")
_lock = threading.Lock()


def append_record(path: Path, row: BaseModel | dict[str, Any]) -> None:
    """Append one record as one line and hand it to the system at once. Safe for threads."""
    append_line(path, dump_row(row) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append records that are lines already."""
    with _lock, explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_torn_line(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(line)


@overload
def read_records(path: Path) -> list[dict[str, Any]]: ...
@overload
def read_records(path: Path, model: type[M]) -> list[M]: ...
def read_records(path: Path, model: type[M] | None = None) -> list[Any]:
    """All records of a file, none if it is absent. A torn last line (no line end) is dropped.

    Raises RecordError with file and line for any other line that is not such a record.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [parse_row(path, n, line, model) for n, line in enumerate(lines[:-1], 1) if line.strip()]


def parse_row(path: Path, n: int, line: bytes, model: type[M] | None) -> Any:
    """Line `n` of a file as a record of the model, or as a dict where none is given.

    Raises RecordError for a line that is none, or whose format is another one."""
    fix = f"mend or delete line {n} of {path}; the work it stood for is then done again"
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise RecordError(f"{path}:{n}: not JSON ({error})", fix) from error
    if not isinstance(row, dict):
        raise RecordError(f"{path}:{n}: not a record but {str(row)[:40]!r}", fix)
    check_format(path, row.pop("format", 1))
    if model is None:
        return row
    try:
        return model.model_validate(row)
    except ValidationError as error:
        raise RecordError(f"{path}:{n}: not a {model.__name__}: {write_faults(error, most=1)}", fix) from error


def check_format(path: Path, found: Any) -> None:
    """Raises RecordError for what another version of the kit wrote in a format of its own."""
    if found != FORMAT:
        raise RecordError(f"{path} was written by {'an older' if found in range(FORMAT) else 'another'} version of the "
                          f"kit (format {found}, this one reads {FORMAT})",
                          "read it with that version, or start a new run: --run NAME")


def write_records(path: Path, rows: Iterable[BaseModel | dict[str, Any]]) -> None:
    """Write all records at once, atomically."""
    write_text(path, "".join(dump_row(row) + "\n" for row in rows))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; NaN has no place in it and raises ValueError."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: it is there as a whole, or as it was before."""
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def dump_row(row: BaseModel | dict[str, Any]) -> str:
    """A record as one line of JSON, its format first."""
    head = f'{{"format":{FORMAT}'
    text = row.model_dump_json() if isinstance(row, BaseModel) else json.dumps(row, ensure_ascii=False)
    return head + (f",{text[1:]}" if len(text) > 2 else "}")


def cut_torn_line(path: Path) -> None:
    """Drop what an interruption left of a last line, so that the next record does not grow onto it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        content = path.read_bytes()
        file.truncate(content.rfind(b"\n") + 1)


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Around a write: a full disk becomes a DiskFullError with cause and fix; other errors pass."""
    try:
        yield
    except RecordError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        fix = "free some space and start again; everything recorded so far is kept"
        raise DiskFullError(f"the disk is full: {path} could not be written", fix) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that no space is left: the system's, or sqlite's.

    On a full disk sqlite also speaks of an I/O error, when its shared index cannot grow.
    """
    while error is not None:
        if isinstance(error, sqlite3.OperationalError) and str(error) in SQLITE_FULL:
            return True
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
