"""Keys: read from the environment, sent to where they belong, and found in no file and no message."""

import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
from kits.loopback_teacher import Raw, fail, in_turn, serve_teacher

from synthkit.core import endpoints
from synthkit.core.errors import EndpointError, SynthkitError
from synthkit.core.hub import HubClient
from synthkit.core.llm import ChatClient
from synthkit.core.params import HubParams, TeacherParams

KEY = "sk-loopback-0123456789"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_a_missing_key_is_told_before_any_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EndpointError, match=r"no key(.|\n)*fix: export OPENAI_API_KEY"):
        ChatClient(TeacherParams(base_url="https://teacher.invalid/v1"), tmp_path, "01_topics")


def test_the_key_goes_to_the_endpoint_and_into_no_file(tmp_path: Path) -> None:
    with serve_teacher({"": lambda m: "hi"}) as teacher:
        ChatClient(TeacherParams(**teacher.params), tmp_path, "01_topics").chat(HELLO)
    assert teacher.keys == [KEY]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert not any(KEY.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize("fault", [
    fail(401, "invalid_api_key", f"Incorrect API key provided: {KEY}"), fail(400, None, f"bad request by {KEY}"),
    fail(500, None, KEY), fail(400, "unsupported_value", f"not with {KEY}"), Raw(body=f"<html>{KEY}</html>"),
])
def test_a_key_that_the_endpoint_repeats_is_not_shown(tmp_path: Path, fault: Raw) -> None:
    with serve_teacher({"": in_turn(fault)}) as teacher, pytest.raises(SynthkitError) as caught:
        ChatClient(TeacherParams(**teacher.params), tmp_path, "01_topics").chat(HELLO)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("odd", [f"{KEY}\nX-Header: 1", f"“{KEY}”"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", odd)
    monkeypatch.setenv("HF_TOKEN", odd)
    for start in (lambda: ChatClient(TeacherParams(base_url="http://127.0.0.1:9/v1"), tmp_path, "01_topics"),
                  lambda: HubClient(HubParams(endpoint="http://127.0.0.1:9"))):
        with pytest.raises(EndpointError, match="holds characters that no key has") as caught:
            start()
        assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_line_end_after_the_key_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    with serve_teacher({"": lambda m: "hi"}) as teacher:
        ChatClient(TeacherParams(**teacher.params), tmp_path, "01_topics").chat(HELLO)
    assert teacher.keys == [KEY]


def test_the_embedded_services_get_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_teacher({"": lambda m: "hi"}) as teacher:
        monkeypatch.setattr(endpoints, "start_embedded", lambda: SimpleNamespace(urls={"teacher": teacher.url}))
        monkeypatch.setattr(endpoints, "_embedded", None)
        ChatClient(TeacherParams(), tmp_path, "01_topics").chat(HELLO)
    assert teacher.keys == ["none"]
