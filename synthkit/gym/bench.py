"""What the environment costs on this machine, in medians, beside a fresh process and sandbox for each command."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from synthkit.core.errors import ParamError, SandboxError
from synthkit.core.params import SandboxParams
from synthkit.gym.environment import Environment
from synthkit.gym.sandbox import Sandbox, open_sandbox
from synthkit.gym.sandbox.folders import open_folder
from synthkit.gym.task import Task, build_csv_task, write_task
from synthkit.gym.task.config import TaskMeta

ENVIRONMENTS = 64
SCRIPT = "import pandas as pd\nfrom sklearn.linear_model import LinearRegression\n" \
         "frame = pd.DataFrame({'x': range(50), 'y': range(50)})\n" \
         "print(LinearRegression().fit(frame[['x']], frame['y']).score(frame[['x']], frame['y']))\n"
LINES = 300
# In the units of the figures: concurrent actions a second at least, all others at most.
TARGETS = {"start_stop_ms": 100.0, "echo_ms": 1.0, "open_ms": 2.0, "goto_ms": 2.0, "edit_ms": 10.0,
           "concurrent_actions_per_s": 1000.0, "python_warm_ms": 150.0}


def bench_environment(params: SandboxParams, n: int) -> dict[str, Any]:
    """Medians over `n` (fewer for what takes long); names end in their unit.

    `python_first_ms` is one run, which waits until the warm interpreter has loaded. Raises SandboxError when a session
    cannot be started or an action does not do what it should, ParamError for an `n` below 1.
    """
    if n < 1:
        raise ParamError(f"{n} measurements give no median", "ask for 1 or more with --n")
    with open_folder() as folder:
        task = write_small_task(Path(folder))
        figures = bench_session(params, task, n)
        figures["start_stop_ms"] = median_ms(lambda: start_and_stop(task, params), n)
        figures["sandbox_start_stop_ms"] = median_ms(lambda: run_once(params, ""), n)
        figures["concurrent_actions_per_s"] = measure_concurrency(task, params, max(1, n // 4))
        figures["python_cold_ms"] = measure_cold(params, max(1, n // 20))
        figures["fresh_process_ms"] = median_ms(run_fresh, n)
        figures["fresh_sandbox_ms"] = median_ms(lambda: run_once(params, "echo hi"), max(1, n // 4))
    first = ("start_stop_ms", "echo_ms", "open_ms", "edit_ms", "concurrent_actions_per_s", "python_cold_ms",
             "python_warm_ms", "fresh_process_ms")
    machine = {"n": n, "environments": ENVIRONMENTS, "cpus": len(os.sched_getaffinity(0)),
               "python": platform.python_version(), "kernel": platform.release()}
    ordered = {name: figures[name] for name in [*first, *(name for name in figures if name not in first)]}
    return {"backend": params.backend} | {name: round(value, 3) for name, value in ordered.items()} | machine


def bench_session(params: SandboxParams, task: Task, n: int) -> dict[str, float]:
    """One environment's commands, one after the other."""
    with Environment(task, params, max_steps=100 * n + 100) as env:
        env.reset()
        (env.workspace / "long.py").write_text("".join(f"value_{at} = {at}\n" for at in range(LINES)))
        (env.workspace / "script.py").write_text(SCRIPT)
        first = median_ms(lambda: require(env.sandbox, "python script.py", "1.0"), 1)
        require(env.sandbox, "echo hi", "hi")
        figures = {"python_first_ms": first,
                   "python_warm_ms": median_ms(lambda: env.step("python script.py"), max(1, n // 4)),
                   "echo_ms": median_ms(lambda: env.step("echo hi"), n),
                   "open_ms": median_ms(lambda: env.step("open long.py"), n),
                   "goto_ms": median_ms(lambda: env.step("goto 150"), n)}
        numbers = iter(range(10**9))
        env.step("edit 150:150\nvalue_149 = -1\nend_of_edit")  # The first edit loads the linter.
        figures["edit_ms"] = median_ms(lambda: env.step(f"edit 150:150\nvalue_149 = {next(numbers)}\nend_of_edit"), n)
        require(env.sandbox, "sed -n 150p long.py", f"value_149 = {next(numbers) - 1}")
    return figures


def require(sandbox: Sandbox, command: str, expected: str) -> None:
    """Raise SandboxError unless a command prints what it should: one that is broken would look fast."""
    said = sandbox.run(command, 60).output.strip()
    if said != expected:
        raise SandboxError(f"{command!r} gave {said!r} in place of {expected!r}", "see what `synthkit doctor` says")


def start_and_stop(task: Task, params: SandboxParams) -> None:
    """An episode without a step: the workspace, the sandbox, and their end."""
    with Environment(task, params, max_steps=1) as env:
        env.reset()


def run_once(params: SandboxParams, command: str) -> None:
    """A sandbox for one command, without a task; '' starts and stops it only."""
    with open_folder() as folder, open_sandbox(Path(folder), params) as sandbox:
        if command:
            sandbox.run(command, 60)


def run_fresh() -> None:
    """What a command costs without any sandbox: a bash of its own."""
    subprocess.run(["bash", "-c", "echo hi"], capture_output=True, check=True)


def measure_cold(params: SandboxParams, n: int) -> float:
    """The same script in a new interpreter each time."""
    with open_folder() as folder:
        (Path(folder) / "script.py").write_text(SCRIPT)
        with open_sandbox(Path(folder), params.model_copy(update={"warm": False})) as sandbox:
            require(sandbox, "python script.py", "1.0")
            return median_ms(lambda: sandbox.run("python script.py", 60), n)


def measure_concurrency(task: Task, params: SandboxParams, n: int) -> float:
    """Actions a second in sum, of environments that all act at once."""
    with ExitStack() as stack:
        worlds = [stack.enter_context(Environment(task, params, max_steps=n + 1)) for _ in range(ENVIRONMENTS)]
        with ThreadPoolExecutor(ENVIRONMENTS) as pool:
            list(pool.map(lambda world: world.reset(), worlds))
            started = time.perf_counter()
            said = list(pool.map(lambda world: {world.step("echo hi")[0] for _ in range(n)}, worlds))
            seconds = time.perf_counter() - started
        if any(observations != {"hi"} for observations in said):
            raise SandboxError(f"'echo hi' gave {set().union(*said)} in {ENVIRONMENTS} environments at once",
                               "see what `synthkit doctor` says")
        return ENVIRONMENTS * n / seconds


def median_ms(call: Callable[[], object], n: int) -> float:
    """The median wall time of `n` calls, in milliseconds."""
    times = []
    for _ in range(n):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def write_small_task(root: Path) -> Task:
    """A table of 20 rows with a stored baseline, so that a reset runs no script."""
    meta = TaskMeta(metric="accuracy", direction="maximize", task_kind="classification", target="y",
                    baseline_public=0.5, baseline_private=0.5)
    config, dataset = build_csv_task("bench", "Bench", "Say y.", "Rows.", time_limit_s=60, meta=meta)
    rows = "".join(f"{at},{at % 2}\n" for at in range(20))
    write_task(root, config, [dataset], meta, {
        "baseline.py": "", "evaluate.py": "", "data/train.csv": f"x,y\n{rows}", "data/test.csv": f"id,x\n{rows}",
        "data/sample_submission.csv": f"id,y\n{rows}", "data/answers.csv": f"id,y\n{rows}"})
    return Task.load(root, "bench")


def format_figures(figures: dict[str, Any]) -> str:
    """A line for each figure, with its target where it has one."""
    lines = []
    for name, value in figures.items():
        target = TARGETS.get(name)
        bound = "" if target is None else f"{'at least' if name.endswith('per_s') else 'at most'} {target:g}"
        lines.append(f"{name:<26} {value!s:>12}  {bound}".rstrip())
    return "\n".join(lines) + "\n"
