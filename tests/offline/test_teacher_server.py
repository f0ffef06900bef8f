"""The scripted teacher over HTTP, asked by the real OpenAI client as the stages ask it."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import httpx
import openai
import pytest
from pydantic import BaseModel

from synthkit.core.llm import describe_form, write_schema
from synthkit.core.prompts import render_messages
from synthkit.offline.library import load_library
from synthkit.offline.teacher_server import MODEL, TeacherHandler, TeacherServer, open_teacher
from synthkit.records import Cell, TaskCode
from synthkit.stages.common.similarity import TextIndex
from synthkit.stages.datasets.forms import DatasetProposal, TaskPlan
from synthkit.stages.topics.stage import TopicBatch

TWO_FLAWS = "digits-top-half"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = open_teacher()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300)


def ask(client: openai.OpenAI, form: type[BaseModel], messages: list[dict], seed: int = 0,
        structured: str = "json_schema"):
    answer = client.chat.completions.create(
        model=MODEL, messages=messages, seed=seed, response_format=describe_form(form, structured))
    return form.model_validate_json(answer.choices[0].message.content)


def say(*lines: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Topic: not this line"}, {"role": "user", "content": "\n".join(lines)}]


def ask_topics(client: openai.OpenAI, cells: list[Cell], taken: list[str], seed: int = 0) -> TopicBatch:
    return ask(client, TopicBatch, render_messages("topics", cells=cells, taken=taken, batch=1), seed)


def make_cell(area: str) -> Cell:
    return Cell(area=area, modality="table", task_type="regression", difficulty="easy")


def ask_repair(client: openai.OpenAI, draft: TaskCode, reason: str, evidence: str) -> TaskCode:
    messages = [
        *say(f"Topic: {load_library()[TWO_FLAWS].title}", "Attempt: 1"),
        {"role": "assistant", "content": draft.model_dump_json()},
        *render_messages("task_repair", attempt=2, gate="baseline", reason=reason, evidence=evidence),
    ]
    return ask(client, TaskCode, messages)


def test_models_are_listed_and_named_a_script(client):
    models = client.models.list().data
    assert [model.id for model in models] == [MODEL]
    assert "not a language model" in client.models.retrieve(MODEL).owned_by


def test_topics_fit_their_cells_and_leave_out_what_is_taken(client):
    cells = [make_cell("public policy"), make_cell("medicine"), make_cell("public policy")]
    topics = ask_topics(client, cells, []).topics
    assert [topic.area for topic in topics] == ["public policy", "medicine", "public policy"]
    assert len({topic.title for topic in topics}) == 3
    more = ask_topics(client, cells, [topic.title for topic in topics]).topics
    assert not {topic.title for topic in more} & {topic.title for topic in topics}


def test_an_area_runs_dry_and_an_unknown_one_has_nothing(client):
    taken = [entry.title for entry in load_library().values() if entry.rewording is None]
    spent = taken + [entry.rewording for entry in load_library().values() if entry.rewording]
    assert ask_topics(client, [make_cell("medicine"), make_cell("astrology")], spent).topics == []


def test_now_and_then_a_topic_comes_again_in_other_words(client):
    taken = [entry.title for entry in load_library().values()]
    replies = [ask_topics(client, [make_cell("tabular classification")], taken, seed).topics for seed in range(24)]
    again = [topic for reply in replies for topic in reply]
    assert 0 < len(again) < 12
    originals = [f"{entry.title}. {entry.summary}" for entry in load_library().values()]
    texts = [f"{topic.title}. {topic.summary}" for topic in again]
    assert all(TextIndex(originals).find_near_duplicate(text, 0.8)[0] is not None for text in texts)


def test_proposal_and_plan_belong_to_the_topic(client):
    entry = load_library()["food-expenditure"]
    messages = say("Topic id: t001-x", f"Topic: {entry.title}", "Area: any")
    assert ask(client, DatasetProposal, messages).dataset_id == entry.dataset.dataset_id
    assert ask(client, TaskPlan, messages).model_dump(exclude={"custom_metric"}) == entry.plan.model_dump()


def test_each_repair_mends_what_its_evidence_shows(client):
    entry = load_library()[TWO_FLAWS]
    first = ask(client, TaskCode, say(f"Topic: {entry.title}", "Attempt: 1"))
    assert "import numpy" not in first.baseline_py and "labels[1:]" in first.baseline_py
    blind = ask_repair(client, first, "baseline_failed", "it did not work")
    assert blind == first
    second = ask_repair(client, first, "baseline_failed", "NameError: name 'np' is not defined")
    assert "import numpy" in second.baseline_py and "labels[1:]" in second.baseline_py
    third = ask_repair(client, second, "bad_submission", "280 rows are expected")
    assert third.model_dump() == entry.good_files()


def test_a_restart_is_clean_by_chance_and_never_when_beyond_repair(client):
    def restart(slug: str, seed: int) -> bool:
        code = ask(client, TaskCode, say(f"Topic: {load_library()[slug].title}", "Attempt: 3"), seed)
        return code.model_dump() == load_library()[slug].good_files()

    assert 0 < sum(restart(TWO_FLAWS, seed) for seed in range(20)) < 20
    assert not any(restart("strike-duration", seed) for seed in range(20))


def test_the_form_is_found_in_the_prompt_without_a_schema(client):
    entry = load_library()["iris-sepals"]
    for structured in ("json_object", "text"):
        messages = [*say(f"Topic: {entry.title}", "Attempt: 1"), {"role": "user", "content": write_schema(TaskCode)}]
        response_format = describe_form(TaskCode, structured) or openai.omit
        answer = client.chat.completions.create(model=MODEL, messages=messages, response_format=response_format)
        assert json.loads(answer.choices[0].message.content) == entry.draft(entry.flaws)


def test_without_a_form_the_policy_acts(client):
    task = "TASK: x\nMetric: mae (lower is better)\nTask kind: regression\n(id, y)\nbash-$"
    reply = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": task}], seed=1)
    assert reply.choices[0].message.content.count("```") == 2


def test_usage_is_counted_and_the_same_request_gets_the_same_reply(client):
    messages = say(f"Topic: {load_library()['nile-flow'].title}", "Attempt: 2")
    replies = [client.chat.completions.create(model=MODEL, messages=messages, seed=5,
                                              response_format=describe_form(TaskCode, "json_schema")) for _ in range(2)]
    assert replies[0].choices == replies[1].choices and replies[0].usage == replies[1].usage
    usage = replies[0].usage
    assert usage.prompt_tokens == sum(-(-len(m["content"].encode()) // 4) for m in messages)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_faults_come_in_openais_error_form(client, url):
    with pytest.raises(openai.NotFoundError, match="does not exist") as caught:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "x"}])
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="library has no topic 'Alchemy'"):
        ask(client, TaskPlan, say("Topic: Alchemy"))
    with pytest.raises(openai.BadRequestError, match="does not stream"):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}], stream=True)
    for body, status in ((b"{", 400), (b"[]", 400), (b'{"model": "scripted-teacher"}', 400)):
        answer = httpx.post(f"{url}/chat/completions", timeout=300, content=body)
        assert answer.status_code == status and set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert httpx.get(f"{url}/nothing", timeout=300).status_code == 404
    assert httpx.post(f"{url}/embeddings", timeout=300, json={}).json()["error"]["code"] == "unknown_url"


def test_a_body_of_unknown_length_is_refused_and_the_server_lives(url):
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=300) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 413")
    assert httpx.get(f"{url}/models", timeout=300).status_code == 200


class CountedHandler(TeacherHandler):
    """Notes each send: two for an answer cost the delayed acknowledgement of the first, 40 ms."""

    sends: ClassVar[list[bytes]] = []

    def setup(self) -> None:
        super().setup()
        self.wfile = Counted(self.wfile, self.sends)


class Counted:
    def __init__(self, file: Any, sends: list[bytes]):
        self.file, self.sends = file, sends

    def write(self, data: bytes) -> int:
        self.sends.append(data)
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_burst_of_clients_is_answered_with_one_send_each():
    messages = say(f"Topic: {load_library()['nile-flow'].title}")
    with TeacherServer(("127.0.0.1", 0), CountedHandler) as server, ThreadPoolExecutor(16) as pool:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none", max_retries=0,
                               timeout=300)
        plans = list(pool.map(lambda seed: ask(client, TaskPlan, messages, seed), range(64)))
        server.shutdown()
    assert len({plan.model_dump_json() for plan in plans}) == 1
    assert len(CountedHandler.sends) == 64
    assert all(data.startswith(b"HTTP/1.1 200") and data.endswith(b"}") for data in CountedHandler.sends)
