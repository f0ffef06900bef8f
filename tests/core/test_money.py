"""Money: every attempt is paid or accounted for, and the budget holds in the service's own bill."""

import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kits.places import ROOT
from services.chat_service import ChatService, Turn, serve_chat
from services.dialects import refuse_busy, word_error

from synthkit import doctor
from synthkit.core import ledger as ledgers
from synthkit.core.errors import (
    BudgetError,
    EndpointError,
    FilteredReply,
    ParamError,
    SynthkitError,
    TransientEndpointError,
)
from synthkit.core.executor import map_items, pause
from synthkit.core.ledger import Ledger, stage_charges, stage_usage
from synthkit.core.llm import ChatClient, MeteredSender, check_prices, sending
from synthkit.core.llm import endpoint as endpoints
from synthkit.core.llm.prices import price_request
from synthkit.core.params import StudentParams, TeacherParams
from synthkit.core.profiles import load_params

STAGE = "01_topics"
HELLO = [{"role": "user", "content": "hello"}]
PRICES = {"usd_per_mtok": (100.0, 1000.0)}  # A reservation is then about 0.12 USD.


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that retries would have waited."""
    asked: list[float] = []
    monkeypatch.setattr(sending, "pause", asked.append)
    return asked


def open_client(service: ChatService, run: Path, **values: Any) -> ChatClient:
    common = {"budget_usd": 100.0, "max_output_tokens": 10}
    return ChatClient(TeacherParams(**common | service.params | values), run, STAGE)


def chat(client: ChatClient, sample: int = 0) -> SynthkitError | None:
    """The error that a chat ended with, if it did."""
    try:
        client.chat(HELLO, sample=sample)
    except SynthkitError as error:
        return error
    return None


def price_hello(client: ChatClient) -> float:
    """USD that a request may cost at most."""
    assert isinstance(client.sender, MeteredSender)
    size = len('{"model": "served", "messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 10}')
    return price_request(client.teacher, size)


HOSTILE = [None, {}, [], "many", {"prompt_tokens": 9}, {"prompt_tokens": -1_000_000_000, "completion_tokens": 5},
           {"prompt_tokens": 9, "completion_tokens": -5}, {"prompt_tokens": 10**30, "completion_tokens": 5},
           {"prompt_tokens": 9, "completion_tokens": 10**30}, {"prompt_tokens": True, "completion_tokens": True},
           {"prompt_tokens": "9", "completion_tokens": "5"}, {"prompt_tokens": 9.0, "completion_tokens": 5.0},
           {"prompt_tokens": 9, "completion_tokens": 11}, {"prompt_tokens": 0, "completion_tokens": 0}]


@pytest.mark.parametrize("usage", HOSTILE)
def test_usage_that_cannot_be_true_is_replaced_by_the_reservation(tmp_path: Path, usage: Any) -> None:
    with serve_chat(Turn("f" * 12, usage=usage), **PRICES) as service:
        client = open_client(service, tmp_path)
        first, again = client.chat(HELLO), client.chat(HELLO)
    most = price_hello(client)
    assert (first.tokens_out, first.usd, again.usd) == (3, pytest.approx(most), pytest.approx(most))
    paid = stage_charges(tmp_path, STAGE)["paid"]
    assert paid["usd"] == pytest.approx(most, abs=1e-6) and 3 < paid["tokens"] < 40
    with Ledger(tmp_path, 0).transaction() as db:
        assert db.execute("SELECT estimated FROM charges WHERE kind = 'paid'").fetchall() == [(1,)]


@pytest.mark.parametrize("message", [{"content": None}, {"content": "", "refusal": "no"}, {"content": {"a": [1]}},
                                     {"tool_calls": [7, {"function": 7}, {"function": {"arguments": {"a": 1}}}]}])
def test_usage_is_settled_whatever_the_message_holds(tmp_path: Path, message: dict[str, Any]) -> None:
    with serve_chat(Turn(message=message), **PRICES) as service:
        chat(open_client(service, tmp_path))
    assert stage_charges(tmp_path, STAGE)["paid"]["usd"] == pytest.approx(service.bill, abs=1e-6)


@pytest.mark.parametrize("body", ["<html>a proxy</html>", "", "[]", "7", "null", "{}", {"choices": None}, "[" * 9999,
                                  {"choices": [], "x": "y" * 100}])
def test_what_is_no_completion_is_charged_and_stops(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    monkeypatch.setattr(endpoints, "LARGEST_ANSWER", 100)  # The last one is a completion, and longer than that.
    with serve_chat(Turn(refusal=(200, body, {})), **PRICES) as service:
        client = open_client(service, tmp_path, max_retries=3)
        error = chat(client)
    assert type(error) is EndpointError and "does not speak the OpenAI chat API" in error.cause
    assert len(service.requests) == 1
    charges = stage_charges(tmp_path, STAGE)
    assert list(charges) == ["presumed"] and charges["presumed"]["usd"] == pytest.approx(price_hello(client), abs=1e-6)


def test_an_error_with_status_200_is_what_it_says(tmp_path: Path) -> None:
    turn = Turn(refusal=(200, word_error("Provider failed", "error", 502), {}))
    with serve_chat(turn, **PRICES) as service:
        error = chat(open_client(service, tmp_path))
    assert isinstance(error, TransientEndpointError) and "answered 502" in error.cause
    assert list(stage_charges(tmp_path, STAGE)) == ["presumed"]


@pytest.mark.parametrize("status", [408, 502, 504, 524])
def test_where_a_gateway_gave_up_the_request_may_have_been_billed(tmp_path: Path, status: int) -> None:
    with serve_chat(Turn(refusal=(status, "<html>a gateway's page</html>", {})), **PRICES) as service:
        error = chat(open_client(service, tmp_path))
    assert isinstance(error, TransientEndpointError)
    assert list(stage_charges(tmp_path, STAGE)) == ["presumed"]


def test_a_spoilt_answer_of_an_endpoint_that_does_speak_is_tried_again_later(tmp_path: Path) -> None:
    turns = [Turn(), Turn(refusal=(200, {"choices": None}, {}))]
    with serve_chat(lambda number, request: turns[number], **PRICES) as service:
        client = open_client(service, tmp_path)
        assert chat(client) is None
        error = chat(client, sample=1)
    assert isinstance(error, TransientEndpointError) and error.retryable


def test_one_prompt_that_is_moderated_is_no_fault_of_the_key(tmp_path: Path) -> None:
    body = {"error": {"code": 403, "message": "Your chosen model requires moderation and your input was flagged for x",
                      "metadata": {"reasons": ["x"], "flagged_input": "hello"}}}
    with serve_chat(Turn(refusal=(403, body, {})), **PRICES) as service:
        assert isinstance(chat(open_client(service, tmp_path)), FilteredReply)


@pytest.mark.parametrize("delivery", ["late", "cut", "drop", "drip"])
@pytest.mark.parametrize("prices", [PRICES, {}])
def test_a_reply_that_does_not_arrive_is_charged_in_full(
        tmp_path: Path, delivery: Any, prices: dict[str, Any]) -> None:
    with serve_chat(Turn(delivery=delivery), **prices) as service:
        waits = delivery in ("late", "drip")
        client = open_client(service, tmp_path, timeout_s=2 if waits else 300)
        error = chat(client)
    assert isinstance(error, TransientEndpointError) and error.retryable
    assert ("within 2 s" in error.cause) == waits
    assert service.produced == 1
    charges = stage_charges(tmp_path, STAGE)
    assert list(charges) == ["presumed"] and charges["presumed"]["requests"] == 1
    assert service.bill <= charges["presumed"]["usd"] == pytest.approx(price_hello(client), abs=1e-6)


def test_every_attempt_is_reserved_and_settled_by_itself(tmp_path: Path, waits: list[float]) -> None:
    deliveries = ["cut", "drop", "whole"]
    with serve_chat(lambda number, request: Turn(delivery=deliveries[number]), **PRICES) as service:
        client = open_client(service, tmp_path, max_retries=2)
        reply = client.chat(HELLO)
    assert (service.produced, len(waits)) == (3, 2)
    charges = stage_charges(tmp_path, STAGE)
    assert charges["presumed"]["requests"] == 2
    assert charges["presumed"]["usd"] == pytest.approx(2 * price_hello(client), abs=1e-6)
    assert charges["paid"]["usd"] == pytest.approx(reply.usd) == pytest.approx(service.bill / 3)


def test_refused_attempts_cost_nothing_and_wait_as_they_are_told(tmp_path: Path, waits: list[float]) -> None:
    turns = [refuse_busy(Retry_After="7"), refuse_busy(503, Retry_After_Ms="40"), refuse_busy(500), refuse_busy(429),
             refuse_busy(409, Retry_After="3600")]
    with serve_chat(lambda number, request: Turn(refusal=turns[number]), **PRICES) as service:
        state = random.getstate()
        error = chat(open_client(service, tmp_path, max_retries=4))
        assert random.getstate() == state, "stages seed the global generator"
    assert isinstance(error, TransientEndpointError) and "answered 409 5 times" in error.cause
    assert waits[:2] == [7.0, 0.04] and 1.5 <= waits[2] <= 2.0 and 3.0 <= waits[3] <= 4.0 and len(waits) == 4
    assert stage_charges(tmp_path, STAGE) == {}


def test_waits_without_a_word_grow_to_a_limit(tmp_path: Path, waits: list[float]) -> None:
    with serve_chat(Turn(refusal=refuse_busy(500))) as service:
        chat(open_client(service, tmp_path, max_retries=7))
    limits = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert all(limit * 0.75 <= wait <= limit for wait, limit in zip(waits, limits, strict=True))


def test_a_wait_ends_with_the_map_that_it_is_part_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()

    def pause_and_tell(seconds: float) -> None:
        waiting.set()
        pause(seconds)

    monkeypatch.setattr(sending, "pause", pause_and_tell)
    with serve_chat(Turn(refusal=refuse_busy(Retry_After="120"))) as service:
        client = open_client(service, tmp_path, max_retries=1)

        def work(item: str) -> None:
            if item == "waits":
                client.chat(HELLO)
            assert waiting.wait(300)
            raise BudgetError("enough")

        with pytest.raises(BudgetError, match="enough"):
            list(map_items(work, ["waits", "stops"], 2))
    assert len(service.requests) == 1


def test_an_endpoint_that_cannot_be_reached_is_tried_again_before_it_stops_all(
        tmp_path: Path, waits: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        service = ChatService(url=f"http://127.0.0.1:{free.getsockname()[1]}/v1")
        error = chat(open_client(service, tmp_path, max_retries=2, usd_per_mtok_in=1.0))
    assert type(error) is EndpointError and "cannot be reached" in error.cause and len(waits) == 2
    assert stage_charges(tmp_path, STAGE) == {}


def test_the_cap_holds_in_the_services_own_bill_where_replies_are_late(tmp_path: Path) -> None:
    late = random.Random(7)
    fates = ["late" if late.random() < 0.3 else "whole" for _ in range(1000)]
    with serve_chat(lambda number, request: Turn(delivery=fates[number]), **PRICES) as service:
        client = open_client(service, tmp_path, timeout_s=2, budget_usd=2.5, max_retries=1)
        with ThreadPoolExecutor(8) as pool:
            errors = [error for error in pool.map(lambda sample: chat(client, sample), range(400)) if error]
    assert any(isinstance(error, BudgetError) for error in errors)
    assert {type(error) for error in errors} <= {BudgetError, TransientEndpointError}
    charges = stage_charges(tmp_path, STAGE)
    assert charges["presumed"]["requests"] > 5 and len(service.requests) == service.produced
    assert charges["presumed"]["requests"] + charges["paid"]["requests"] == service.produced
    spent = stage_usage(tmp_path, STAGE)[1]
    assert service.bill <= spent <= 2.5
    assert spent + price_hello(client) > 2.5, "nothing was left that would have paid for another request"


def test_near_the_cap_requests_take_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, go = threading.Event(), threading.Event()
    monkeypatch.setattr(ledgers, "pause", lambda seconds: (waiting.set(), threading.Event().wait(0.01)))

    def answer(number: int, request: dict[str, Any]) -> Turn:
        assert go.wait(300)
        return Turn()

    with serve_chat(answer, **PRICES) as service, ThreadPoolExecutor(2) as pool:
        client = open_client(service, tmp_path, budget_usd=0.2)
        assert 0.1 < price_hello(client) < 0.2
        chats = [pool.submit(chat, client, sample) for sample in range(2)]
        assert waiting.wait(300) and len(service.requests) <= 1
        go.set()
        assert [ended.result(300) for ended in chats] == [None, None]
    assert stage_usage(tmp_path, STAGE)[1] == pytest.approx(service.bill) and service.bill <= 0.2


def test_a_resumed_run_has_the_same_costs_and_pays_once(tmp_path: Path) -> None:
    with serve_chat(**PRICES) as service:
        first = open_client(service, tmp_path).chat(HELLO)
        again = open_client(service, tmp_path).chat(HELLO)
    assert (first.cached, again.cached) == (False, True)
    assert first.usd == again.usd == pytest.approx(service.bill) and service.bill > 0
    assert len(service.requests) == 1
    charges = stage_charges(tmp_path, STAGE)
    assert charges["cached"] == {"requests": 1, "tokens": charges["paid"]["tokens"], "usd": 0.0}
    assert stage_usage(tmp_path, STAGE) == (charges["paid"]["tokens"], charges["paid"]["usd"])


def test_a_reply_is_kept_before_it_is_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_chat(**PRICES) as service:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "settle", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                open_client(service, tmp_path).chat(HELLO)
        assert open_client(service, tmp_path).chat(HELLO).cached
    assert len(service.requests) == 1


@pytest.mark.parametrize("params", [TeacherParams(), StudentParams()])
def test_a_price_has_to_be_written_for_an_endpoint_beyond_this_machine(params: TeacherParams | StudentParams) -> None:
    for url in ("http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:80/v1"):
        check_prices(params, url)
    with pytest.raises(ParamError, match=r"usd_per_mtok_in and .*usd_per_mtok_out are null(.|\n)*0\.0 where it costs"):
        check_prices(params, "https://teacher.invalid/v1")
    half = params.model_copy(update={"usd_per_mtok_in": 0.0})
    with pytest.raises(ParamError, match=r"usd_per_mtok_out is null"):
        check_prices(half, "https://teacher.invalid/v1")
    check_prices(half.model_copy(update={"usd_per_mtok_out": 0.0}), "https://teacher.invalid/v1")


def test_without_a_price_no_client_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-for-tests")
    teacher = TeacherParams(base_url="https://teacher.invalid/v1", usd_per_mtok_in=1.0)
    with pytest.raises(ParamError, match=r"teacher\.usd_per_mtok_out is null"):
        ChatClient(teacher, tmp_path, STAGE)
    ChatClient(teacher.model_copy(update={"usd_per_mtok_out": 2.0}), tmp_path, STAGE)


@pytest.mark.parametrize("section", ["teacher", "mlgym_eval.student"])
def test_the_doctor_misses_a_price_before_anything_is_paid(monkeypatch: pytest.MonkeyPatch, section: str) -> None:
    monkeypatch.setattr(doctor, "get_url", lambda url, headers: "ConnectError")
    base = ROOT / "params" / "base.yaml"
    place, name = f"{section}.base_url=https://served.invalid/v1", f"{section.rpartition('.')[2]}'s price"

    def look(*sets: str) -> dict[str, doctor.Check]:
        stages = load_params([base], [place, *sets])
        return {check.name: check for check in doctor.check_teachers(stages) + doctor.check_student(stages)}

    missing = look()[name]
    assert missing.needed and not missing.ok and f"{section}.usd_per_mtok_in" in missing.detail and missing.fix
    assert name not in look(f"{section}.usd_per_mtok_in=0.0", f"{section}.usd_per_mtok_out=0.0")
