"""Records on disk: what an interruption, a bad line, a full disk and two threads leave behind."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import BaseModel

from synthkit.core.errors import RecordError
from synthkit.core.files import append_record, read_records, write_json, write_records


class Row(BaseModel):
    name: str
    score: float


ROWS = [Row(name="α β", score=0.1), Row(name="line\nbreak\u2028", score=-2.0)]


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of this process that is opened for writing refuses its bytes."""
    def refuse(*args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "some file")

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(Path, "open", refuse)


def test_what_was_appended_or_written_is_read_again(tmp_path: Path) -> None:
    appended, written = tmp_path / "new" / "a.jsonl", tmp_path / "b.jsonl"
    assert read_records(appended) == []
    for row in ROWS:
        append_record(appended, row)
    write_records(written, read_records(appended))
    assert read_records(appended, Row) == read_records(written, Row) == ROWS
    assert appended.read_bytes().count(b"\n") == 2


def test_written_bytes_do_not_depend_on_the_way(tmp_path: Path) -> None:
    direct, again = tmp_path / "direct.jsonl", tmp_path / "again.jsonl"
    write_records(direct, ROWS)
    write_records(again, read_records(direct, Row))
    assert direct.read_bytes() == again.read_bytes()


def test_a_torn_last_line_is_dropped_and_the_next_record_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for row in ROWS:
        append_record(path, row)
    whole = path.read_bytes()
    for kept in (len(whole) - 1, len(whole) - 3, whole.index(b"\n") + 1):
        path.write_bytes(whole[:kept])
        assert read_records(path, Row) == ROWS[:1]
    inside = whole.index(b"\xce") + 1
    path.write_bytes(whole[:inside])
    assert whole[inside] == 0xb1, "the cut is inside of a character"
    append_record(path, ROWS[1])
    assert read_records(path, Row) == ROWS[1:]


@pytest.mark.parametrize(("line", "why"), [
    (b'{"name": "x", ', "not JSON"), (b'{"format": 3, "name": "x"}', "not a Row: score"),
    (b'{"name": "\xff", "score": 1}', "not JSON"), (b"7", "not a record"),
    (b'{"format": 3, "name": "x", "score": "high"}', "score: Input should be a valid number"),
])
def test_a_corrupt_line_is_named_with_file_and_line(tmp_path: Path, line: bytes, why: str) -> None:
    path = tmp_path / "a.jsonl"
    write_records(path, ROWS)
    path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())
    with pytest.raises(RecordError) as caught:
        read_records(path, Row)
    assert f"{path}:3: " in caught.value.cause and why in caught.value.cause
    assert "line 3" in caught.value.fix


def test_threads_append_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: append_record(path, {"n": n, "text": "x" * 5000}), range(200)))
    assert sorted(row["n"] for row in read_records(path)) == list(range(200))


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()
    for content in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, content)
    with pytest.raises(ZeroDivisionError):
        write_records(path, ({"n": 1 // n} for n in (1, 0)))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_explained_and_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with monkeypatch.context() as patch:
        fill_disk(patch)
        for write in (lambda: write_json(path, {"a": 2}), lambda: append_record(path, {"a": 2})):
            with pytest.raises(RecordError, match=r"the disk is full: .*a\.json(.|\n)*fix: free some space"):
                write()
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / "file" / "a.json", {})
    assert not isinstance(caught.value, RecordError)


@pytest.mark.parametrize(("line", "whose"), [
    (b'{"name": "x", "score": 1.0}', "an older"), (b'{"format": 99, "name": "x", "score": 1.0}', "another"),
])
def test_a_record_of_another_format_is_never_half_read(tmp_path: Path, line: bytes, whose: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line + b"\n")
    for model in (Row, None):
        with pytest.raises(RecordError, match=rf"written by {whose} version of the kit(.|\n)*--run NAME"):
            read_records(path, model) if model else read_records(path)
