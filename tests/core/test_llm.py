"""The chat client against a teacher on loopback that speaks the protocol and fails in the ways that real ones do."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kits.loopback_teacher import Answer, Raw, Teacher, call_tool, complete, fail, in_turn, serve_teacher
from pydantic import BaseModel, Field

from synthkit.core.errors import (
    BudgetError,
    ContextOverflow,
    EmptyReply,
    EndpointError,
    ReplyError,
    TransientEndpointError,
)
from synthkit.core.ledger import Ledger, stage_charges, stage_usage
from synthkit.core.llm import ChatClient
from synthkit.core.params import TeacherParams
from synthkit.gym.agent.parsing import FormatError
from synthkit.gym.agent.replies import read_tool_call
from synthkit.gym.agent.tools import list_tools

STAGE = "01_topics"
HELLO = [{"role": "user", "content": "hello"}]
PRICES = {"usd_per_mtok_in": 1e4, "usd_per_mtok_out": 1e4, "max_output_tokens": 10}


class Form(BaseModel):
    title: str
    size: int = Field(ge=1)


def open_client(teacher: Teacher, run: Path, **values: Any) -> ChatClient:
    return ChatClient(TeacherParams(**teacher.params | values), run, STAGE)


def ask_all(answer: Answer, run: Path, **values: Any) -> tuple[Any, Teacher]:
    """What one chat gave, a reply or an error, and what the teacher saw."""
    with serve_teacher({"": answer}) as teacher:
        try:
            return open_client(teacher, run, **values).chat(HELLO), teacher
        except Exception as error:
            return error, teacher


def test_a_reply_brings_its_usage_and_the_request_leaves_out_what_is_not_set(tmp_path: Path) -> None:
    reply, teacher = ask_all(lambda m: Raw(body=complete("hi", (7, 3))), tmp_path, max_output_tokens=9)
    assert (reply.text, reply.tokens_in, reply.tokens_out, reply.cached) == ("hi", 7, 3, False)
    assert teacher.bodies == [{"model": "loopback", "messages": HELLO, "max_completion_tokens": 9}]
    assert stage_usage(tmp_path, STAGE) == (10, 0.0)


def test_a_resumed_run_pays_for_nothing_twice(tmp_path: Path) -> None:
    numbers = iter(range(100))
    with serve_teacher({"": lambda messages: str(next(numbers))}) as teacher:
        values = PRICES | {"budget_usd": 99.0}
        first = open_client(teacher, tmp_path, **values)
        texts = [first.chat(HELLO, sample=sample, seed=seed).text for sample in range(2) for seed in (None, 1)]
        spent = stage_usage(tmp_path, STAGE)
        again = open_client(teacher, tmp_path, **values)
        replies = [again.chat(HELLO, sample=sample, seed=seed) for sample in range(2) for seed in (None, 1)]
    assert [reply.text for reply in replies] == texts == ["0", "1", "2", "3"]
    assert {(reply.cached, reply.usd) for reply in replies} == {(True, 0.02)}, "the list price, though not paid again"
    assert stage_usage(tmp_path, STAGE) == spent == (8, 0.08)


def test_other_requests_are_not_answered_from_the_cache(tmp_path: Path) -> None:
    with serve_teacher({"": lambda m: m[-1]["content"].upper()}) as teacher:
        client = open_client(teacher, tmp_path)
        assert [client.chat([{"role": "user", "content": text}]).text for text in ("a", "b", "a")] == ["A", "B", "A"]
        assert not open_client(teacher, tmp_path, temperature=0.5).chat([{"role": "user", "content": "a"}]).cached
    assert len(teacher.asked) == 3


def test_the_same_request_at_once_is_paid_once(tmp_path: Path) -> None:
    with serve_teacher({"": lambda m: "x"}) as teacher, ThreadPoolExecutor(8) as pool:
        client = open_client(teacher, tmp_path)
        assert {reply.text for reply in pool.map(lambda _: client.chat(HELLO), range(8))} == {"x"}
    assert len(teacher.asked) == 1


def test_requests_at_once_are_limited(tmp_path: Path) -> None:
    lock, running, most, together = threading.Lock(), [0], [0], threading.Barrier(3, timeout=300)

    def answer(messages: list[dict[str, str]]) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait()
        with lock:
            running[0] -= 1
        return "x"

    with serve_teacher({"": answer}) as teacher, ThreadPoolExecutor(9) as pool:
        client = open_client(teacher, tmp_path, concurrency=3)
        list(pool.map(lambda n: client.chat(HELLO, sample=n), range(9)))
    assert most == [3]


@pytest.mark.parametrize("fault", [fail(429), fail(500), fail(503), fail(409)])
def test_what_may_pass_is_tried_again(tmp_path: Path, fault: Raw) -> None:
    reply, teacher = ask_all(in_turn(fault, "good"), tmp_path, max_retries=1)
    assert (reply.text, len(teacher.asked)) == ("good", 2)
    error, teacher = ask_all(in_turn(fault), tmp_path / "b", max_retries=1)
    assert isinstance(error, TransientEndpointError) and f"answered {fault.status} 2 times" in error.cause
    assert len(teacher.asked) == 2
    assert stage_usage(tmp_path / "b", STAGE) == (0, 0.0)


@pytest.mark.parametrize(("fault", "expected"), [
    (fail(401, "invalid_api_key"), "refused the key"), (fail(403), "refused the key"),
    (fail(404, "model_not_found"), "has no model 'loopback'"),
    (fail(400, "unsupported_parameter", "'max_tokens' is not supported", "max_tokens"), "refuses a parameter"),
    (fail(400, None, "Unknown argument: seed", "seed"), "Unknown argument: seed"),
    (fail(429, "insufficient_quota"), "no credit left"), (Raw(body="<html>a proxy</html>"), "does not speak"),
])
def test_what_a_person_must_mend_stops_with_cause_and_fix(tmp_path: Path, fault: Raw, expected: str) -> None:
    error, teacher = ask_all(in_turn(fault), tmp_path)
    assert type(error) is EndpointError and expected in error.cause and error.fix
    assert len(teacher.asked) == 1


@pytest.mark.parametrize(("fault", "expected"), [
    (fail(400, "context_length_exceeded", "too long", "messages"), ContextOverflow), (fail(413), ContextOverflow),
    (fail(400, None, "maximum context length is 99999 tokens", "max_tokens"), ContextOverflow),
    (fail(400, None, "too long", "input_tokens"), ContextOverflow), (fail(422), ReplyError),
    (fail(400, None, "Invalid role", "messages[0].role"), ReplyError), (Raw(body=complete("")), EmptyReply),
    (Raw(body=complete("x") | {"choices": []}), EmptyReply),
])
def test_what_one_request_caused_is_data(tmp_path: Path, fault: Raw, expected: type[ReplyError]) -> None:
    error, _ = ask_all(in_turn(fault), tmp_path)
    assert type(error) is expected


def test_a_silent_endpoint_is_given_up_and_counts_with_what_it_may_cost(tmp_path: Path) -> None:
    error, _ = ask_all(in_turn(Raw(silent=True)), tmp_path, timeout_s=0.1, budget_usd=99.0, **PRICES)
    assert isinstance(error, TransientEndpointError) and "did not answer within 0.1 s" in error.cause
    assert list(stage_charges(tmp_path, STAGE)) == ["presumed"] and stage_usage(tmp_path, STAGE)[1] > 0.1


def test_an_endpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        client = ChatClient(TeacherParams(base_url=url, max_retries=0), tmp_path, STAGE)
        with pytest.raises(EndpointError, match=f"{url} cannot be reached"):
            client.chat(HELLO)


@pytest.mark.parametrize("usage", [None, {}])
def test_a_reply_without_usage_is_estimated(tmp_path: Path, usage: dict[str, int] | None) -> None:
    body = complete("x" * 40, None) | ({"usage": usage} if usage is not None else {})
    reply, _ = ask_all(lambda m: Raw(body=body), tmp_path)
    assert reply.usd == 0.0 and reply.tokens_out == 10 and 10 < reply.tokens_in < 100
    with Ledger(tmp_path, 0).transaction() as db:
        assert db.execute("SELECT open, estimated FROM charges").fetchall() == [(0, 1)]


def test_the_budget_stops_before_the_request_is_sent(tmp_path: Path) -> None:
    with serve_teacher({"": lambda m: Raw(body=complete("x", (10, 10)))}) as teacher:
        client = open_client(teacher, tmp_path, budget_usd=13.0, **PRICES)
        client.chat(HELLO)
        with pytest.raises(BudgetError, match="fix: raise teacher.budget_usd"):
            for sample in range(1, 19):
                client.chat(HELLO, sample=sample)
        assert client.chat(HELLO).cached
    assert stage_usage(tmp_path, STAGE)[1] == pytest.approx(0.2 * len(teacher.asked))
    assert 1 <= len(teacher.asked) < 19


def test_tools_are_offered_and_a_call_comes_back_as_text(tmp_path: Path) -> None:
    arguments = {"start": 1, "end": 2, "text": '</tool_call>\n"é"'}
    answer = Raw(body=complete("I edit.", (7, 3), [call_tool("edit", json.dumps(arguments))]))
    with serve_teacher({"": in_turn(answer, "no call")}) as teacher:
        client = open_client(teacher, tmp_path)
        reply = client.chat(HELLO, tools=list_tools())
        assert client.chat(HELLO, tools=list_tools()).text == reply.text
        assert client.chat(HELLO).text == client.chat(HELLO, tools=list_tools()[:1]).text == "no call"
    assert read_tool_call(reply.text) == ("I edit.", f"edit 1:2\n{arguments['text']}\nend_of_edit")
    assert [body.get("tools") for body in teacher.bodies] == [list_tools(), None, list_tools()[:1]]
    assert "tools" not in teacher.bodies[1], "offered only where given"


CUSTOM = {"id": "c", "type": "custom", "custom": {"name": "bash", "input": "ls"}}


@pytest.mark.parametrize(("calls", "read"), [
    ([call_tool("submit", "{}")], "submit"), ([call_tool("bash", '{"command": "ls"}')], "ls"),
    ([call_tool("bash", '{"command": "l')], "not a JSON object"), ([call_tool("bash", "")], "not a JSON object"),
    ([CUSTOM], "not a JSON object"), ([call_tool("submit", "{}")] * 2, "more than one tool"),
    ([call_tool("bash", '{"command": "\\ud800"}')], "?"),
])
def test_a_call_without_text_is_a_reply_and_a_broken_one_a_format_error(tmp_path: Path, calls: list, read: str) -> None:
    reply, _ = ask_all(lambda m: Raw(body=complete(None, calls=calls)), tmp_path)
    try:
        assert read_tool_call(reply.text) == ("", read)
    except FormatError as error:
        assert read in error.cause


@pytest.mark.parametrize("structured", ["json_schema", "json_object", "text"])
def test_a_form_is_asked_for_as_the_endpoint_allows(tmp_path: Path, structured: str) -> None:
    answer = '```json\n{"title": "a", "size": 2}\n```'
    with serve_teacher({"": lambda m: answer, "Form": lambda m: answer}) as teacher:
        form, replies = open_client(teacher, tmp_path, structured=structured).ask(HELLO, Form)
    assert (form, len(replies)) == (Form(title="a", size=2), 1)
    (body,) = teacher.bodies
    kinds = {"json_schema": "json_schema", "json_object": "json_object", "text": None}
    assert body.get("response_format", {}).get("type") == kinds[structured]
    assert ("schema" in body["messages"][-1]["content"]) == (structured != "json_schema")


@pytest.mark.parametrize("bad", ["sorry", '{"title": "a"}', '{"title": "a", "size": 0}', '{"title": "a", "size"'])
def test_a_form_is_repaired_once(tmp_path: Path, bad: str) -> None:
    good = '{"title": "a", "size": 1}'
    with serve_teacher({"Form": in_turn(bad, good)}) as teacher:
        form, replies = open_client(teacher, tmp_path).ask(HELLO, Form)
    assert form.size == 1 and [reply.text for reply in replies] == [bad, good]
    assert teacher.asked[1][1][-2:-1] == [{"role": "assistant", "content": bad}]
    assert "does not fit the form: " in teacher.asked[1][1][-1]["content"]
    with serve_teacher({"Form": in_turn(bad)}) as teacher, pytest.raises(ReplyError, match="no Form after one repair"):
        open_client(teacher, tmp_path / "b").ask(HELLO, Form)
    assert len(teacher.asked) == 2
