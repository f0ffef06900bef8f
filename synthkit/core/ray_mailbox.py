"""How a worker on a Ray cluster asks a model: through a mailbox to the driver, which has key, cache, ledger and budget.

The mailbox is an actor that holds requests until the driver takes them and replies until their worker has them. It
knows nothing of either.
"""

import asyncio
import pickle
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from synthkit.core.errors import NodeLost, SynthkitError
from synthkit.core.executor import raise_if_stopped, stop_with
from synthkit.core.llm import MeteredSender, Reply
from synthkit.core.params import TeacherParams
from synthkit.core.stage import Stage

TAKE_S = 1.0
MOST_WAITING = 10_000


class Mailbox:
    """Requests on their way to the driver, and replies on their way back."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self.replies: dict[int, asyncio.Future[Any]] = {}
        self.count = 0

    async def ask(self, request: Any) -> Any:
        """For a worker: its reply, whenever that comes."""
        self.count += 1
        number = self.count
        self.replies[number] = asyncio.get_running_loop().create_future()
        await self.requests.put((number, request))
        try:
            return await self.replies[number]
        finally:
            del self.replies[number]

    async def take(self) -> list[tuple[int, Any]]:
        """For the driver: the requests that wait, after at most a second."""
        try:
            taken = [await asyncio.wait_for(self.requests.get(), TAKE_S)]
        except TimeoutError:
            return []
        while not self.requests.empty():
            taken.append(self.requests.get_nowait())
        return taken

    async def answer(self, number: int, reply: Any) -> None:
        """For the driver: hand over a reply, or an exception; a worker that has gone gets none."""
        future = self.replies.get(number)
        if future is not None and not future.done():
            future.set_result(reply)


class RemoteSender:
    """In a worker: sends requests through the mailbox. See core.llm.Sender."""

    def __init__(self, mailbox: Any, teacher: TeacherParams, weights: str):
        self.mailbox, self.teacher, self.weights = mailbox, teacher, weights

    def send(self, request: dict[str, Any], sample: int, seed: int | None) -> Reply:
        """The reply to a request. Raises what the driver's sender raised, and NodeLost when the mailbox is gone."""
        import ray

        waiting = self.mailbox.ask.remote((self.teacher, self.weights, request, sample, seed))
        while True:
            try:
                reply: Reply | Exception = ray.get(waiting, timeout=60)
            except ray.exceptions.GetTimeoutError:
                continue  # The driver retries for as long as its parameters say.
            except ray.exceptions.RayError as error:
                raise NodeLost("the driver's mailbox is gone") from error
            if isinstance(reply, Exception):
                raise reply
            return reply


@contextmanager
def serve_mailbox(stage: Stage, stopped: threading.Event) -> Iterator[Any]:
    """A mailbox whose requests this process answers while the block runs, with CancelledError once `stopped` is set."""
    import ray

    node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False)
    mailbox = ray.remote(num_cpus=0, max_concurrency=MOST_WAITING)(Mailbox).options(scheduling_strategy=node).remote()
    ending, pool = threading.Event(), ThreadPoolExecutor(count_slots(stage))
    serving = threading.Thread(target=serve, args=(mailbox, stage, pool, stopped, ending), daemon=True)
    serving.start()
    waiting = True
    try:
        yield mailbox
    except KeyboardInterrupt:
        waiting = False  # The second interrupt does not wait for what is under way.
        raise
    finally:
        ending.set()
        ray.kill(mailbox)
        pool.shutdown(wait=waiting, cancel_futures=True)
        if waiting:
            serving.join()


def count_slots(stage: Stage) -> int:
    """How many requests of a stage may be under way at the same time: the teacher's `concurrency`."""
    teacher = getattr(stage.params, "teacher", None)
    assert isinstance(teacher, TeacherParams), f"{stage.name} asks no teacher"
    return teacher.concurrency


def serve(mailbox: Any, stage: Stage, pool: ThreadPoolExecutor, stopped: threading.Event,
          ending: threading.Event) -> None:
    """Take requests and answer each in a thread of its own, as many at a time as the endpoint's slots.

    When that ends early the mailbox ends with it, so that no worker waits for a reply that nobody will send.
    """
    import ray

    senders, taking = Senders(stage), None
    try:
        while not ending.is_set():
            taking = taking or mailbox.take.remote()
            try:
                taken = ray.get(taking, timeout=60)
            except ray.exceptions.GetTimeoutError:
                continue  # What it takes in the end must not be lost.
            taking = None
            for number, request in taken:
                pool.submit(answer, mailbox, number, request, senders, stopped)
    except Exception:
        stopped.set()
        ray.kill(mailbox)


def answer(mailbox: Any, number: int, request: Any, senders: "Senders", stopped: threading.Event) -> None:
    """Send one request and put its reply, or the exception that came of it, into the mailbox; raises nothing."""
    teacher, weights, body, sample, seed = request
    try:
        with stop_with(stopped):
            raise_if_stopped()
            reply: Any = senders.open(teacher, weights).send(body, sample, seed)
    except Exception as error:
        reply = make_portable(error)
    with suppress(Exception):  # After a second interrupt there may be no Ray any more.
        mailbox.answer.remote(number, reply)


def make_portable(error: Exception) -> Exception:
    """An exception that can cross processes; one that nobody expected brings its traceback as a note."""
    if not isinstance(error, SynthkitError | CancelledError):
        error.add_note("elsewhere:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", []):
            plain.add_note(note)
        return plain
    return error


class Senders:
    """What sends the requests of a stage, one for each model."""

    def __init__(self, stage: Stage):
        self.stage, self.lock = stage, threading.Lock()
        self.known: dict[str, MeteredSender] = {}

    def open(self, teacher: TeacherParams, weights: str) -> MeteredSender:
        """The sender of one model, made at its first request.

        Raises what MeteredSender raises when it is made, such as EndpointError without a key.
        """
        key = f"{teacher.model_dump_json()} {weights}"
        with self.lock:
            if key not in self.known:
                self.known[key] = MeteredSender(teacher, self.stage.run_dir, self.stage.name, weights=weights)
            return self.known[key]

