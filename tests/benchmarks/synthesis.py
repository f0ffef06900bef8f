"""Stages 01 to 03 with many topics and a slow teacher. By hand:

    PYTHONPATH=tests python tests/benchmarks/synthesis.py [N] [LATENCY_S]

N topics (1,000) go through the stages as they are, against the embedded Hub and a teacher on loopback that answers each
request after LATENCY_S (0.2) seconds, 64 at a time. Its answers come from the library, under made-up titles; it repeats
itself, misnames datasets and picks bad targets as often as `--dry-run` assumes, and bills the thinking that is assumed
there. Prints a JSON line for each stage: seconds, requests, the share of the 64 slots that the teacher saw in use and
of the time in which any was, CPU seconds of the kit and of the teacher, and the kit's memory (MiB) at the end of each
fifth of the stage; at last tokens and USD of each stage beside what `--dry-run` says (list price of 2025).
"""

import asyncio
import json
import multiprocessing
import random
import re
import sys
import threading
import time
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from kits.library_kit import SOUND

from synthkit.core.ledger import open_database
from synthkit.core.opening import open_stage
from synthkit.core.params import STAGES as MODELS
from synthkit.core.params import TopicsParams
from synthkit.gym.sandbox.folders import open_folder
from synthkit.offline.answers import read_cells
from synthkit.offline.library import Entry, load_library
from synthkit.plan import DATASET_YIELD, FOUND, THINKING, TOPIC_YIELD, estimate
from synthkit.stages.codegen import stage as codegen
from synthkit.stages.datasets import stage as datasets
from synthkit.stages.topics import stage as topics

SLOTS = 64
STAGES = {"01_topics": topics, "02_datasets": datasets, "03_codegen": codegen}
USD_IN, USD_OUT = 1.25e-6, 10e-6
TOPIC = re.compile(r"^Topic id: (.*)$", re.MULTILINE)
TAKEN = re.compile(r"^Already taken: (.*)$", re.MULTILINE)


class Meter:
    """Requests in flight over time: `load` is their integral, `awake` how long there was one; both in seconds."""

    def __init__(self) -> None:
        self.flying, self.load, self.awake, self.count, self.last = 0, 0.0, 0.0, 0, time.monotonic()

    def move(self, by: int) -> None:
        now = time.monotonic()
        self.load += self.flying * (now - self.last)
        self.awake += (self.flying > 0) * (now - self.last)
        self.last = now
        self.flying += by
        self.count += by > 0


def main(n: int, latency_s: float) -> None:
    ours, theirs = multiprocessing.Pipe()
    teacher = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, latency_s), daemon=True)
    teacher.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    with open_folder() as folder:
        for name, module in STAGES.items():
            values: dict[str, Any] = {"run_dir": str(folder), "teacher": {"model": "simulated", "base_url": url,
                                                                     "concurrency": SLOTS}}
            values |= {"01_topics": {"n_topics": n}, "02_datasets": {"max_near_duplicates": n}}.get(name, {})
            stage = open_stage(name, values)
            line = measure(lambda stage=stage, module=module: module.run(stage), ours, teacher.pid or 0)
            module.check(stage)
            module.finish(stage)
            say({"stage": name, "kept": module.funnel(stage)[1], **line})
        compare_cost(Path(folder), n)


def compare_cost(run_dir: Path, n: int) -> None:
    params = {name: model() for name, model in MODELS.items()}
    planned = estimate(params | {"01_topics": TopicsParams(n_topics=n)})
    spent_usd = planned_usd = 0.0
    for name in STAGES:
        query = "SELECT COUNT(*), SUM(tokens_in), SUM(tokens_out) FROM charges WHERE stage = ?"
        requests, tokens_in, tokens_out = open_database(run_dir / "ledger.sqlite").execute(query, (name,)).fetchone()
        plan = planned[name]
        usd, expected = tokens_in * USD_IN + tokens_out * USD_OUT, plan.tokens_in * USD_IN + plan.tokens_out * USD_OUT
        spent_usd, planned_usd = spent_usd + usd, planned_usd + expected
        say({"stage": name, "requests": [requests, plan.requests], "tokens_in": [tokens_in, plan.tokens_in],
             "tokens_out": [tokens_out, plan.tokens_out], "usd": [round(usd, 2), round(expected, 2)]})
    say({"usd": round(spent_usd, 2), "planned": round(planned_usd, 2), "ratio": round(spent_usd / planned_usd, 3)})


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def measure(work: Any, teacher: Connection, pid: int) -> dict[str, Any]:
    memory: list[float] = []
    ended = threading.Event()
    watcher = threading.Thread(target=watch_memory, args=(memory, ended))
    teacher.send("start")
    before = teacher.recv()
    started, cpu, server = time.monotonic(), time.process_time(), sum(psutil.Process(pid).cpu_times()[:2])
    watcher.start()
    work()
    seconds = time.monotonic() - started
    cpu, server = time.process_time() - cpu, sum(psutil.Process(pid).cpu_times()[:2]) - server
    ended.set()
    watcher.join()
    teacher.send("stop")
    requests, load, awake = (after - now for after, now in zip(teacher.recv(), before, strict=True))
    return {"seconds": round(seconds, 1), "requests": requests, "slots_busy": round(load / seconds / SLOTS, 3),
            "any_busy": round(awake / seconds, 3), "kit_cpu_s": round(cpu, 1),
            "teacher_cpu_s": round(server, 1),
            "mib": [round(memory[len(memory) * fifth // 5 - 1]) for fifth in range(1, 6)]}


def watch_memory(into: list[float], ended: threading.Event) -> None:
    process = psutil.Process()
    while not ended.wait(0.1):
        into.append(process.memory_info().rss / 2**20)


def serve(pipe: Connection, latency_s: float) -> None:
    """The teacher, in a process of its own. Every message on the pipe is answered by its figures so far."""
    meter, slots = Meter(), asyncio.Semaphore(SLOTS)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await read_head(reader):
            body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))
            meter.move(1)
            async with slots:
                reply = write_completion(body)
                await asyncio.sleep(latency_s)
            meter.move(-1)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                         % (len(reply), reply))
            await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
        asyncio.get_running_loop().add_reader(pipe.fileno(), tell)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    def tell() -> None:
        try:
            pipe.recv()
        except EOFError:
            sys.exit()
        meter.move(0)
        pipe.send((meter.count, meter.load, meter.awake))

    asyncio.run(run())


async def read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def write_completion(body: bytes) -> bytes:
    request = json.loads(body)
    text = "\n".join(message["content"] for message in request["messages"])
    form = request["response_format"]["json_schema"]["name"]
    reply = write_topics(text) if form == "TopicBatch" else write_form(form, TOPIC.findall(text)[-1])
    usage = {"prompt_tokens": len(body) // 4, "completion_tokens": len(reply) // 4 + THINKING[form], "total_tokens": 0}
    return json.dumps({
        "id": "x", "object": "chat.completion", "created": 0, "model": "simulated",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}],
        "usage": usage,
    }).encode()


def write_topics(text: str) -> str:
    """An idea for each cell; the first says again what is taken, as often as is assumed."""
    taken = TAKEN.findall(text)
    ideas = []
    for at, cell in enumerate(read_cells(text)):
        title = make_words(f"{at} {text}", 7)
        if draw(f"{at} {text}") > TOPIC_YIELD and taken[0] != "none":
            title = taken[at % len(taken)]
        ideas.append({**cell, "title": title, "summary": make_words(title, 28)})
    return json.dumps({"topics": ideas})


def make_words(seed: str, n: int) -> str:
    numbers = random.Random(seed)
    return " ".join(f"w{numbers.randrange(4000)}" for _ in range(n))


def draw(seed: str) -> float:
    return random.Random(seed).random()


def write_form(form: str, topic_id: str) -> str:
    entry, luck = choose_entry(topic_id), draw(topic_id)
    if form == "DatasetProposal":
        unknown = {"dataset_id": "nobody/heard-of-it", "search_words": ["zzzqqq"]} if luck > FOUND else {}
        return entry.dataset.model_copy(update=unknown).model_dump_json()
    if form == "TaskCode":
        return write_code(entry.title)
    assert entry.plan is not None
    target = {"target": "no such column"} if luck > DATASET_YIELD else {}
    told = {"title": topic_id, "description": make_words(topic_id, 60)}
    return entry.plan.model_copy(update=told | target).model_dump_json()


def choose_entry(topic_id: str) -> Entry:
    return load_library()[random.Random(f"entry {topic_id}").choice(SOUND)]


@cache
def write_code(title: str) -> str:
    return json.dumps(next(entry for entry in load_library().values() if entry.title == title).good_files())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, float(sys.argv[2]) if len(sys.argv) > 2 else 0.2)
