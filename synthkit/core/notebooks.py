"""One notebook in one kernel: its parameters cell checked, executed through papermill, and when it fails, why.

A kernel that dies leaves no error in its notebook, so its standard error and its exit status go to a
log beside the output; the log is kept only when the notebook failed.
"""

import ast
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets import Int, Unicode
from traitlets.config import Config

from synthkit.core.errors import StageError
from synthkit.core.faults import suggest
from synthkit.core.files import is_disk_full
from synthkit.core.lock import lock_environment
from synthkit.core.params import StageParams
from synthkit.core.paths import show_path
from synthkit.core.stopping import ENGINE, Stop, stop_on_signals

KERNEL_ENV = {
    "GOMP_SPINCOUNT": "0",  # two OpenMP threads that spin beside other work collapse
    "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_MMAP_MAX_": "0",  # keeps freed pages: faster training on a CPU
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONHASHSEED": "0", "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
ALL_CORES = ("06_sft", "07_mlgym_eval")  # train and generate in the kernel; the others only wait for sandboxes
EXERCISE = "exercise"
EXIT_MARK = "kernel exit status "
START_TIMEOUT_S = 300  # Only a kernel that hangs takes so long.
AGAIN = "then run the same command again"


class WatchedKernel(AsyncKernelManager):  # type: ignore[misc]  # taken as a library without types
    """A kernel whose standard error goes to `log_path`, followed by its exit status when it dies by itself."""

    log_path = Unicode().tag(config=True)
    lock_fd = Int().tag(config=True)  # the run's lock, which the kernel holds on when this process is killed
    settled = False  # its end was asked for, or has been noted

    async def start_kernel(self, **kwargs: Any) -> None:
        """Start it with its standard error in the log and the run's lock open in it."""
        with open(self.log_path, "ab") as log:
            await super().start_kernel(stderr=log, pass_fds=(self.lock_fd,), **kwargs)

    def interrupt_now(self) -> None:
        """Interrupt the kernel, and it alone: what runs in its sandboxes may end in peace."""
        if (process := self.find_process()) is not None:
            os.kill(process.pid, signal.SIGINT)

    def kill_now(self) -> None:
        """Kill the kernel and what it has started in its own process group."""
        if (process := self.find_process()) is not None:
            self.settled = True
            os.killpg(process.pid, signal.SIGKILL)

    def find_process(self) -> Any:
        """The kernel's process while it lives."""
        process = getattr(self.provisioner, "process", None)
        return process if process is not None and process.poll() is None else None

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        """End it on request; such an end is not noted in the log as a death."""
        self.settled = True
        await super().shutdown_kernel(now=now, restart=restart)

    async def _async_is_alive(self) -> bool:  # the kernel's client asks by this name, nbclient by the one below
        alive = bool(await super()._async_is_alive())
        if not alive and not self.settled and self.provisioner:
            self.settled = True
            with open(self.log_path, "a", encoding="utf-8") as log:
                log.write(f"\n{EXIT_MARK}{await self.provisioner.poll()}\n")
        return alive

    is_alive = _async_is_alive


def execute_notebook(source: Path, output: Path, params: StageParams, root: Path, attempt: str, lock: int) -> None:
    """Run `source` without its exercises into `output`. Raises StageError with cause and fix.

    `root` is the working folder, `attempt` the id that the stage's record has to bear, `lock` the descriptor of the
    run's lock, which the kernel inherits. SIGINT and SIGTERM let the kernel end what is under way; then
    KeyboardInterrupt is raised (core/stopping.py).
    """
    with stop_on_signals() as stop:
        try:
            execute_stoppable(source, output, params, root, attempt, lock, stop)
        except StageError:
            stop.raise_if_asked()
            raise
        stop.raise_if_asked()


def execute_stoppable(source: Path, output: Path, params: StageParams, root: Path, attempt: str, lock: int,
                      stop: Stop) -> None:
    """As `execute_notebook`, under a `stop` that is in force; an interrupt may surface as any of its errors."""
    name, log, stripped = source.stem, output.with_suffix(".log"), output.with_suffix(".input.ipynb")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        strip_exercises(source, stripped)
        more = {"SYNTHKIT_ATTEMPT": attempt} | lock_environment(root / params.run_dir, lock)
        with kernel_environment(name, more), TemporaryDirectory(prefix="synthkit-") as sockets:
            papermill.execute_notebook(
                str(stripped), str(output), parameters=params.model_dump(), cwd=str(root), progress_bar=False,
                kernel_name="python3", kernel_manager_class=WatchedKernel, engine_name=ENGINE, stop=stop,
                config=configure_kernel(Path(sockets), log, lock), start_timeout=START_TIMEOUT_S,
            )
        log.unlink(missing_ok=True)
    except PapermillExecutionError as error:
        raise explain_cell(name, error, output) from error
    except (RuntimeError, NoSuchKernel) as error:
        raise explain_death(name, error, output, log) from error
    except OSError as error:
        raise explain_os(name, error) from error
    finally:
        stripped.unlink(missing_ok=True)


def configure_kernel(sockets: Path, log: Path, lock: int) -> Config:
    """Sockets in a folder of the kernel's own: no network is needed, and two runs never take each other's names."""
    return Config({"WatchedKernel": {"transport": "ipc", "ip": str(sockets / "kernel"), "log_path": str(log),
                                     "lock_fd": lock}})


def explain_cell(name: str, error: Any, output: Path) -> StageError:
    """A failed cell as cause and fix; an error of the kit brings its own fix."""
    if error.ename == "KeyboardInterrupt":
        raise KeyboardInterrupt
    cause, _, fix = str(error.evalue).partition("\n  fix: ")
    if not fix and any(text in cause for text in ("No space left on device", "disk is full", "quota exceeded")):
        return full_disk(name)
    prefix = "" if fix else f"{error.ename}: "
    return StageError(f"{name} failed: {prefix}{cause}", fix or f"open {show_path(output)} at the marked cell")


def explain_death(name: str, error: Exception, output: Path, log: Path) -> StageError:
    """Why a kernel is gone: a signal, or an exit of its own. One that was asked to end died of an interrupt."""
    status = read_status(log)
    if status is None and isinstance(error, DeadKernelError):
        raise KeyboardInterrupt
    if status is None:
        return StageError(f"{name}: no kernel could be started: {error}", "run `synthkit doctor`")
    where = f"in cell {last_cell(output)} of {show_path(output)}"
    if -status == signal.SIGKILL:
        return StageError(f"{name}: the kernel was killed {where}, as happens when memory runs out",
                          f"free memory or lower workers and batch sizes, {AGAIN}")
    how = f"crashed with {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
    return StageError(f"{name}: the kernel {how} {where}", f"see {show_path(log)}, {AGAIN}")


def read_status(log: Path) -> int | None:
    """The exit status that was noted in a kernel's log; None when it did not die by itself."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return next((int(line.removeprefix(EXIT_MARK)) for line in lines if line.startswith(EXIT_MARK)), None)


def explain_os(name: str, error: OSError) -> StageError:
    """A fault of the file system around a notebook's run as cause and fix."""
    if is_disk_full(error):
        return full_disk(name)
    return StageError(f"{name}: {error}", "check that the run's folder can be written")


def full_disk(name: str) -> StageError:
    """What to raise when no space was left while a stage ran."""
    return StageError(f"{name}: the disk is full", f"free some space, {AGAIN}; everything recorded so far is kept")


def last_cell(output: Path) -> int:
    """The number, from 1, of the last cell that was begun; 0 when none was, or when nothing was written."""
    if not output.exists():
        return 0
    cells = nbformat.read(output, as_version=4).cells
    begun = [k for k, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    return max(begun, default=0)


def strip_exercises(source: Path, target: Path) -> None:
    """The notebook without the cells that are for readers only."""
    notebook = nbformat.read(source, as_version=4)
    notebook.cells = [c for c in notebook.cells if EXERCISE not in c.metadata.get("tags", [])]
    nbformat.write(notebook, target)


@contextmanager
def kernel_environment(name: str, more: Mapping[str, str]) -> Iterator[None]:
    """The environment that the stage's kernel inherits, with `more`; of the rest what the user has set stays."""
    wanted = KERNEL_ENV | ({} if name in ALL_CORES else {"OMP_NUM_THREADS": "1"})
    before = {key: os.environ[key] for key in more if key in os.environ}
    added = {key: value for key, value in wanted.items() if key not in os.environ} | dict(more)
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)
        os.environ.update(before)


def check_notebook(path: Path, model: type[StageParams]) -> list[str]:
    """Faults of a notebook's parameters cell, read without running it: names, and literals only."""
    if not path.is_file():
        return [f"{path.name}: the notebook is missing"]
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    except (ValueError, KeyError, TypeError) as error:
        return [f"{path.name}: not a notebook ({type(error).__name__}: {error})"]
    if len(tagged) != 1:
        return [f"{path.name}: {len(tagged)} cells are tagged `parameters`; papermill needs exactly one"]
    try:
        body = ast.parse("".join(tagged[0]["source"])).body
    except SyntaxError as error:
        return [f"{path.name}: line {error.lineno} of the parameters cell is not Python: {error.msg}"]
    return check_assignments(path, body, set(model.model_fields))


def check_assignments(path: Path, body: list[ast.stmt], fields: set[str]) -> list[str]:
    """Faults of a parameters cell that parses: not `name = literal`, an unknown name, a parameter that is missing."""
    faults, names = [], set()
    for node in body:
        if not isinstance(node, ast.Assign) or len(node.targets) > 1 or not isinstance(node.targets[0], ast.Name):
            faults.append(f"{path.name}: line {node.lineno} of the parameters cell is not `name = literal`")
            continue
        names.add(node.targets[0].id)
        try:
            ast.literal_eval(node.value)
        except ValueError:
            faults.append(f"{path.name}: {node.targets[0].id} is derived; papermill cannot change what it is made of")
    faults += [f"{path.name}: {n} is no parameter of this stage{suggest(n, sorted(fields))}"
               for n in sorted(names - fields)]
    return faults + [f"{path.name}: the parameter {n} is missing" for n in sorted(fields - names)]
