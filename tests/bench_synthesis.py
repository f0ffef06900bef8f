"""Stages 01 to 03 with many topics and a slow teacher: `python tests/bench_synthesis.py [N] [LATENCY_S]`, by hand.

N topics (1,000) go through the stages as they are, against the embedded Hub and a teacher on loopback that
answers each request after LATENCY_S (0.2) seconds, 64 at a time; its answers come from the library, under titles made
up by counting. Prints a JSON line for each stage: seconds, requests, the share of the 64 slots that the teacher saw in
use and of the time in which any was, CPU seconds of the kit and of the teacher, and the kit's memory (MiB) at the end
of each fifth of the stage.
"""

import asyncio
import hashlib
import json
import multiprocessing
import re
import sys
import threading
import time
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import psutil
from test_planted_faults import SOUND

from synthkit.core.runs import Stage, open_stage
from synthkit.gym.folders import open_folder
from synthkit.offline.answers import read_cells
from synthkit.offline.library import Entry, load_library
from synthkit.stages import codegen, datasets, topics

SLOTS = 64
STAGES = {"01_topics": topics, "02_datasets": datasets, "03_codegen": codegen}
TOPIC = re.compile(r"^Topic id: (.*)$", re.MULTILINE)


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
            values |= {"01_topics": {"n_topics": n}, "02_datasets": {"max_twins": n}}.get(name, {})
            stage = open_stage(name, values)
            line = measure(lambda stage=stage, module=module: module.run(stage), ours, teacher.pid or 0)
            module.check(stage)
            module.finish(stage)
            sys.stdout.write(json.dumps({"stage": name, "kept": count_rows(stage), **line}) + "\n")
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


def count_rows(stage: Stage) -> int:
    return STAGES[stage.name].funnel(stage)[1]


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
    return json.dumps({
        "id": "x", "object": "chat.completion", "created": 0, "model": "simulated",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}],
        "usage": {"prompt_tokens": len(text) // 4, "completion_tokens": len(reply) // 4, "total_tokens": 0},
    }).encode()


def write_topics(text: str) -> str:
    ideas = [{**cell, "title": make_words(f"{at} {text}", 5), "summary": make_words(f"{text} {at}", 12)}
             for at, cell in enumerate(read_cells(text))]
    return json.dumps({"topics": ideas})


def make_words(seed: str, n: int) -> str:
    digest = hashlib.sha256(seed.encode()).hexdigest()
    return " ".join(f"w{digest[at * 4:at * 4 + 4]}" for at in range(n))


def write_form(form: str, topic_id: str) -> str:
    entry = choose_entry(topic_id)
    if form == "DatasetProposal":
        return entry.dataset.model_dump_json()
    if form == "TaskCode":
        return write_code(entry.title)
    assert entry.plan is not None
    return entry.plan.model_copy(update={"title": topic_id, "description": make_words(topic_id, 14)}).model_dump_json()


def choose_entry(topic_id: str) -> Entry:
    return load_library()[SOUND[int(hashlib.sha256(topic_id.encode()).hexdigest(), 16) % len(SOUND)]]


@cache
def write_code(title: str) -> str:
    return json.dumps(next(entry for entry in load_library().values() if entry.title == title).good_files())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, float(sys.argv[2]) if len(sys.argv) > 2 else 0.2)
