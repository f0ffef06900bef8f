"""What a chat endpoint answers, in the words of six servers: each kind of reply and refusal is a class of its own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel
from services.chat_service import ChatService, Turn, serve_chat
from services.dialects import DIALECTS

from synthkit.core import endpoints
from synthkit.core.errors import (
    ContextOverflow,
    CutReply,
    EmptyReply,
    EndpointError,
    FilteredReply,
    ReasoningOnlyReply,
    RecordError,
    RefusedReply,
    ReplyError,
)
from synthkit.core.ledger import open_database, stage_charges
from synthkit.core.llm import ChatClient, MeteredSender, Reply
from synthkit.core.llm.faults import read_answer, read_wait, read_window
from synthkit.core.params import TeacherParams

STAGE = "01_topics"
HELLO = [{"role": "user", "content": "hello"}]
LONG = [{"role": "user", "content": "word " * 2000}]


class Form(BaseModel):
    title: str


def open_client(service: ChatService, run: Path, weights: str = "", **values: Any) -> ChatClient:
    return ChatClient(TeacherParams(**service.params | values), run, STAGE, weights=weights)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_conversation_that_is_too_long_is_an_overflow_in_every_dialect(tmp_path: Path, dialect: str) -> None:
    with serve_chat(dialect=dialect, window=2048) as service:
        client = open_client(service, tmp_path, max_output_tokens=256)
        assert client.chat(HELLO).text == "fine"
        with pytest.raises(ContextOverflow) as caught:
            client.chat(LONG)
        assert caught.value.reason == "context_overflow" and not caught.value.retryable
        assert client.chat(HELLO, sample=1).text == "fine", "the stage goes on"
    assert stage_charges(tmp_path, STAGE)["free"]["requests"] == 2, "a refused request costs nothing"


def test_an_overflow_by_the_replys_own_limit_is_one_too(tmp_path: Path) -> None:
    for dialect in ("vllm", "sglang"):
        with serve_chat(dialect=dialect, window=3500) as service, pytest.raises(ContextOverflow):
            open_client(service, tmp_path, max_output_tokens=1024).chat(LONG)


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "openai", "azure"])
def test_a_limit_that_no_conversation_fits_beside_is_for_a_person_to_mend(tmp_path: Path, dialect: str) -> None:
    with serve_chat(dialect=dialect, window=2048, output_limit=2048) as service:
        with pytest.raises(EndpointError, match=r"fix: lower teacher\.max_output_tokens"):
            open_client(service, tmp_path, max_output_tokens=4096).chat(HELLO)


@pytest.mark.parametrize(("status", "body"), [
    (413, "<html>Request Entity Too Large</html>"),
    (400, {"error": {"message": "Unexpected length", "code": "context_length_exceeded"}}),
    (400, {"error": {"message": "too long", "param": "input_tokens", "code": 400}}),
    (400, {"error": "input length exceeds the context length"}),
    (500, {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}),
    (400, {"error": {"code": 400, "message": "This endpoint's maximum context length is 131072 tokens. However, you "
                     "requested about 140000 tokens (139000 of text input, 1000 in the output).", "metadata": {}}}),
    (400, {"error": {"code": 400, "message": "Provider returned error",
                     "metadata": {"raw": "prompt is too long: 213462 tokens > 200000 maximum"}}}),
    (400, {"object": "error", "message": "You passed 9000 input tokens and requested 512 output tokens. However, the "
           "model's context length is only 16384 tokens", "type": "BadRequestError", "param": None, "code": 400}),
])
def test_other_words_for_an_overflow(tmp_path: Path, status: int, body: Any) -> None:
    with serve_chat(Turn(refusal=(status, body, {}))) as service, pytest.raises(ContextOverflow):
        open_client(service, tmp_path).chat(HELLO)


@pytest.mark.parametrize(("message", "window"), [
    ("This model's maximum context length is 32768 tokens. However, ...", 32768),
    ("The input (9 tokens) is longer than the model's context length (8 tokens).", 8),
    ("max_tokens=9cannot be greater than max_model_len=max_total_tokens=8. Please", 8),
    ("request (9 tokens) exceeds the available context size (8 tokens), try increasing it", 8),
    ("but the configured context size is 256,000 tokens", 256000),
    ("prompt too long; exceeded max context length by 4 tokens", None), ("no number", None),
])
def test_the_window_is_read_from_the_message(message: str, window: int | None) -> None:
    assert read_window(message) == window


def test_a_field_that_the_server_does_not_know_is_for_a_person_to_mend(tmp_path: Path) -> None:
    request = {"model": "served", "messages": HELLO, "top_k": 5}
    for dialect in DIALECTS:
        with serve_chat(dialect=dialect) as service:
            sender = MeteredSender(TeacherParams(**service.params), tmp_path / dialect, STAGE)
            if dialect not in ("openai", "azure"):
                assert sender.send(request, 0, None).text == "fine"
                continue
            with pytest.raises(EndpointError, match=r"Unknown parameter: 'top_k'(.|\n)*set it to null"):
                sender.send(request, 0, None)


NOTHING = {"content": None}
UNUSABLE = {
    "refused": (Turn("", message={"refusal": "I cannot help."}), RefusedReply),
    "refused beside text": (Turn("Well,", message={"refusal": "I cannot help."}), RefusedReply),
    "refused in parts": (Turn([{"type": "refusal", "refusal": "I cannot help."}]), RefusedReply),
    "refused by its end": (Turn("", finish="refusal"), RefusedReply),
    "filtered": (Turn("", finish="content_filter"), FilteredReply),
    "filtered in the middle": (Turn("It be", finish="content_filter"), FilteredReply),
    "reasoning": (Turn(None, message={"reasoning": "I think."}), ReasoningOnlyReply),
    "reasoning content": (Turn("\n\n", message={"reasoning_content": "I think."}), ReasoningOnlyReply),
    "cut while reasoning": (Turn(None, "length", message={"reasoning_content": "I think."}), CutReply),
    "cut before a word": (Turn("", "length"), CutReply),
    "empty": (Turn(""), EmptyReply),
    "null": (Turn(None), EmptyReply),
    "a number": (Turn(7), EmptyReply),
    "no message": (Turn(message={"content": {}, "tool_calls": "none"}), EmptyReply),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_reply_that_cannot_be_used_is_kept_paid_and_of_its_own_class(tmp_path: Path, name: str) -> None:
    turn, expected = UNUSABLE[name]
    with serve_chat(turn, usd_per_mtok=(1.0, 1.0)) as service:
        client = open_client(service, tmp_path, budget_usd=1.0)
        for _ in range(2):
            with pytest.raises(ReplyError) as caught:
                client.chat(HELLO)
            assert type(caught.value) is expected and caught.value.cause
    assert list(service.counts.values()) == [1], "the second time it comes from the cache"
    charges = stage_charges(tmp_path, STAGE)
    assert charges["paid"]["usd"] == pytest.approx(service.bill) and charges["cached"]["requests"] == 1


@pytest.mark.parametrize("dialect", ["openai", "azure"])
def test_a_prompt_that_a_filter_stops_costs_nothing(tmp_path: Path, dialect: str) -> None:
    with serve_chat(Turn(filtered=True), dialect=dialect) as service, pytest.raises(FilteredReply):
        open_client(service, tmp_path).chat(HELLO)
    assert stage_charges(tmp_path, STAGE) == {}


def test_a_reply_says_how_it_ended_and_what_it_thought(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 6}}
    turn = Turn([{"type": "text", "text": "o"}, "n", {"type": "text", "text": "e"}, {"type": "image"}], "length",
                usage=usage)
    with serve_chat(turn) as service:
        client = open_client(service, tmp_path)
        first, again = client.chat(HELLO), client.chat(HELLO)
    assert first == Reply("one", 9, 8, 0.0, False, "length", 6) and first.cut
    assert again == Reply("one", 9, 8, 0.0, True, "length", 6)
    assert not Reply("x", 1, 1, 0.0, cached=False).cut


def test_a_form_that_was_cut_is_not_asked_for_again(tmp_path: Path) -> None:
    with serve_chat(Turn('{"title": "a', "length")) as service:
        with pytest.raises(CutReply, match="cut a Form"):
            open_client(service, tmp_path).ask(HELLO, Form)
    assert len(service.requests) == 1
    with serve_chat(Turn('{"title": "a"}', "length")) as service:
        assert open_client(service, tmp_path / "b").ask(HELLO, Form)[0] == Form(title="a")
    turns = [Turn("sorry"), Turn('{"title": "a', "length")]
    with serve_chat(lambda number, request: turns[number]) as service, pytest.raises(CutReply):
        open_client(service, tmp_path / "c").ask(HELLO, Form)


def test_other_weights_and_another_place_are_asked_anew(tmp_path: Path) -> None:
    answer = lambda number, request: Turn(str(number))  # noqa: E731
    with serve_chat(answer) as service:
        texts = [open_client(service, tmp_path, weights).chat(HELLO).text for weights in ("", "old", "new", "old", "")]
        other = service.url.replace("127.0.0.1", "localhost")
        assert texts == ["0", "1", "2", "1", "0"]
        assert open_client(service, tmp_path, base_url=f"{service.url}/").chat(HELLO).text == "0", "the same place"
        assert open_client(service, tmp_path, base_url=other).chat(HELLO).text == "3"


def test_the_embedded_teacher_is_the_same_on_every_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    for number in range(2):
        with serve_chat(Turn(str(number))) as service:
            embedded = SimpleNamespace(urls={"teacher": service.url})
            monkeypatch.setattr(endpoints, "start_embedded", lambda embedded=embedded: embedded)
            monkeypatch.setattr(endpoints, "_embedded", None)
            texts.append(ChatClient(TeacherParams(), tmp_path, STAGE).chat(HELLO).text)
    assert texts == ["0", "0"]


def test_a_client_works_with_a_sender_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    sent: list[tuple[dict[str, Any], int, int | None]] = []

    class OwnSender:
        def send(self, request: dict[str, Any], sample: int, seed: int | None) -> Reply:
            sent.append((request, sample, seed))
            return Reply('{"title": "a"}', 1, 1, 0.5, cached=True)

    teacher = TeacherParams(base_url="https://teacher.invalid/v1", send_seed=False)
    client = ChatClient(teacher, tmp_path, STAGE, sender=OwnSender())
    assert client.ask(HELLO, Form, sample=2, seed=3)[0] == Form(title="a")
    assert sent[0][1:] == (2, 3) and "seed" not in sent[0][0] and sent[0][0]["messages"] == HELLO
    assert list(tmp_path.iterdir()) == []


def test_a_cache_of_an_older_kit_is_refused_in_words(tmp_path: Path) -> None:
    open_database(tmp_path / "llm_cache.sqlite").execute("CREATE TABLE replies (key TEXT PRIMARY KEY, text TEXT)")
    with serve_chat() as service, pytest.raises(RecordError, match="llm_cache.sqlite was written by an older kit"):
        open_client(service, tmp_path)


def test_requests_under_way_are_forgotten_when_they_end(tmp_path: Path) -> None:
    with serve_chat() as service:
        client = open_client(service, tmp_path)
        for sample in range(3):
            client.chat(HELLO, sample=sample)
        assert isinstance(client.sender, MeteredSender) and client.sender.flights.under_way == {}


@pytest.mark.parametrize(("headers", "wait"), [
    ({}, None), ({"retry-after": "7"}, 7.0), ({"retry-after": "900"}, 120.0), ({"retry-after-ms": "250"}, 0.25),
    ({"retry-after": "-1"}, None), ({"retry-after": "nan"}, None), ({"retry-after": "soon"}, None),
    ({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, 120.0), ({"retry-after": "Fri, 01 Jan 2016 00:00:00 GMT"}, 0.0),
])
def test_how_long_an_answer_asks_to_wait(headers: dict[str, str], wait: float | None) -> None:
    assert read_wait(headers) == wait


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"7", b'{"error": 7}', b'{"error": {"message": [1]}}',
                                  b"[" * 100_000, b'{"detail": [{"msg": "bad"}]}'])
def test_any_body_of_an_error_is_borne(body: bytes) -> None:
    assert read_answer(400, body).status == 400
