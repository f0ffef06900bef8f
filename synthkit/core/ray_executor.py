"""A stage's items on a Ray cluster: the same outcomes as on local workers, kept by the driver as they arrive.

A worker gets one item with the files that it is made from, works on it in a folder of its own, and sends back its row
and the files that it wrote. Workers keep no state and hold no key: their requests go through a mailbox to the driver,
which has cache, ledger and budget. So a node may leave at any time: its items are worked on elsewhere, and a reply that
had reached the driver is not paid for again. Of an item that is interrupted or owed only its replies are kept: its
episode or attempt is then played again from them. Every node needs this kit, with the same code, and a sandbox.
Tried on a cluster of two nodes on one machine.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from synthkit.core.code_hash import hash_code
from synthkit.core.endpoints import EMBEDDED
from synthkit.core.errors import EndpointError, NodeLost, SynthkitError, WorkerDied
from synthkit.core.executor import defer_interrupts, explain_stop, is_data
from synthkit.core.files import append_line, explain_full_disk
from synthkit.core.params import RayParams
from synthkit.core.paths import find_root
from synthkit.core.ray_cluster import check_resources, connect
from synthkit.core.ray_mailbox import RemoteSender, make_portable, serve_mailbox
from synthkit.core.stage import Stage

Item = TypeVar("Item")
Context = TypeVar("Context")
LOOK_S = 1.0  # How long the driver waits before it looks whether it is to stop.
RETRIES = 3  # On other nodes, when one leaves.
Files = dict[str, bytes]


@dataclass(frozen=True)
class RemoteWork(Generic[Item, Context]):
    """What a cluster has to know of a worklist: `open`, `work` and `inputs` are those of core.worklist.Worklist.

    `ray` names the cluster and what it reserves for each item.
    """

    stage: Stage
    ray: RayParams
    open: Callable[[Stage], AbstractContextManager[Context]]
    work: Callable[[Context, Item], BaseModel]
    inputs: Callable[[Stage, Item], Sequence[Path]]


def map_on_ray(work: RemoteWork[Item, Any], items: Sequence[Item],
               workers: int) -> Iterator[tuple[Item, BaseModel | Exception]]:
    """Yield (item, result) as they finish, at most `workers` at a time; stops and interrupts as `map_items` does.

    Raises EndpointError, before anything is asked, when there is no cluster or none of its nodes offers what an item
    takes.
    """
    import ray

    stage, stopped, waiting = work.stage, Event(), list(items)
    # Opened here too: a key, a price or a tokenizer that is missing is told at once, and not by every item.
    with work.open(stage), connect(work.ray), serve_mailbox(stage, stopped) as mailbox:
        parcel = ray.put((make_home(stage), work.open, work.work, mailbox))
        with defer_interrupts(stopped, lambda: None) as interrupts:
            try:
                yield from drive(work, waiting, workers, parcel, stopped)
            finally:
                stopped.set()
            if interrupts:
                raise KeyboardInterrupt
            if waiting:
                raise EndpointError("the Ray cluster went away in the middle", "start again; what is done is kept")


def make_home(stage: Stage) -> Stage:
    """The stage as workers are told of it: a benchmark by its whole path, since they start in another folder."""
    benchmark = getattr(stage.params, "benchmark", EMBEDDED)
    if benchmark == EMBEDDED:
        return replace(stage, sender=None)
    params = stage.params.model_copy(update={"benchmark": str((find_root() / benchmark).resolve())})
    return replace(stage, sender=None, params=params)


def drive(work: RemoteWork[Item, Any], waiting: list[Item], workers: int, parcel: Any,
          stopped: Event) -> Iterator[tuple[Item, BaseModel | Exception]]:
    """Keep `workers` items in flight until all have ended, or, once the map is stopping, until those in flight have."""
    import ray

    stop: BaseException | None = None
    remote = make_remote(work.ray)
    flying: dict[Any, Item] = {}
    while flying or (waiting and not stopped.is_set()):
        results: list[tuple[Item, BaseModel | Exception]] = []
        try:
            while waiting and len(flying) < workers and not stopped.is_set():
                flying[remote.remote([parcel], waiting[0], pack_inputs(work, waiting[0]))] = waiting[0]
                waiting.pop(0)
            done, _ = ray.wait(list(flying), num_returns=1, timeout=LOOK_S)
            results = [(flying.pop(ref), take_result(work.stage, ref)) for ref in done]
            if not done:
                check_resources(work.ray)
        except ray.exceptions.RayError as error:
            raise EndpointError(f"the Ray cluster cannot be reached any more: {error}", "start again") from error
        except SynthkitError as error:
            stopped.set()
            stop = stop or error
        for item, result in results:
            if not isinstance(result, Exception) or is_data(result):
                yield item, result
            else:
                stopped.set()
                stop = stop or (None if isinstance(result, CancelledError) else result)
    explain_stop(stop)


def make_remote(params: RayParams) -> Any:
    """`work_on_item` as a remote function that reserves what the parameters say."""
    import ray

    needs = {"num_cpus": params.cpus, "num_gpus": params.gpus,
             "memory": params.memory_mb and params.memory_mb << 20}
    return ray.remote(max_retries=RETRIES, **needs)(work_on_item)


def pack_inputs(work: RemoteWork[Item, Any], item: Item) -> Files:
    """The files that an item is made from, by their path below the run's folder."""
    return pack(work.stage.run_dir, work.inputs(work.stage, item))


def pack(root: Path, paths: Sequence[Path]) -> Files:
    """The content of files, and of all files below folders, by their path below `root`; what is absent is left out."""
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return {str(file.relative_to(root)): file.read_bytes() for file in files if file.is_file()}


def work_on_item(parcel: list[Any], item: Any, inputs: Files) -> tuple[BaseModel | Exception, Files]:
    """In a worker: one item's result, and the files below the stage's folder that came of it."""
    import ray

    home, open_context, work, mailbox = ray.get(parcel[0], timeout=60)
    if home.code != hash_code(home.name):
        return EndpointError("a node of the cluster has other code of the kit than the driver",
                             "install the same version on every node"), {}
    with tempfile.TemporaryDirectory(prefix="synthkit-") as folder:
        stage = make_stage(home, Path(folder), mailbox)
        place(stage.run_dir, inputs)
        try:
            with open_context(stage) as context:
                result = work(context, item)
        except Exception as error:
            result = make_portable(error)
        made = {} if isinstance(result, Exception) else pack(stage.run_dir, [stage.dir])
        return result, {name: data for name, data in made.items() if inputs.get(name) != data}


class RemoteStage(Stage):
    """A stage in a worker: the folders of its inputs hold what was sent, and the driver has checked the chain."""

    def input(self, stage_name: str) -> Path:
        """The folder of an earlier stage, as far as it was sent. Raises nothing."""
        return self.run_dir / stage_name


def make_stage(home: Stage, folder: Path, mailbox: Any) -> Stage:
    """The driver's stage in a worker: its folders lie below `folder`, its requests go through the mailbox."""
    stage = RemoteStage(**vars(home))
    stage.run_dir, stage.dir = folder, folder / home.name
    stage.sender = lambda teacher, weights: RemoteSender(mailbox, teacher, weights)
    stage.dir.mkdir(parents=True)
    return stage


def take_result(stage: Stage, ref: Any) -> BaseModel | Exception:
    """What a worker sent, its files put in their place; NodeLost when it was lost on the way."""
    import ray

    result: BaseModel | Exception
    try:
        result, files = ray.get(ref, timeout=60)
    except ray.exceptions.RayTaskError as error:
        # Not the item's work, whose exceptions come as results: what is around it.
        return NodeLost(f"a worker failed beside its work: {str(error).strip().splitlines()[-1]}")
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        return WorkerDied(f"a worker died: {type(error).__name__}")
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
        return NodeLost(f"a node was lost: {type(error).__name__}")
    try:
        put_files(stage, files)
    except Exception as error:
        return error
    return result


def put_files(stage: Stage, files: Files) -> None:
    """What a worker's item wrote below the stage's folder: records are appended to those that are there."""
    with explain_full_disk(stage.dir):
        lists = {name: data for name, data in files.items() if Path(name).parent == Path(stage.name)
                 and name.endswith(".jsonl")}
        place(stage.run_dir, {name: data for name, data in files.items() if name not in lists})
        for name, data in lists.items():
            append_line(stage.run_dir / name, data.decode())


def place(root: Path, files: Files) -> None:
    """Write files below a folder. Raises EndpointError for a path that leads out of it."""
    for name, data in files.items():
        path = root / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise EndpointError(f"a worker sent a file to {name!r}", "look at who is on the cluster")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
