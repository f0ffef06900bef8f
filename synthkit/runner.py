"""The headless run: the notebooks in order through papermill, each accepted only on its own completion record.

Neither papermill's exit nor a notebook's metadata proves that a stage finished, so each attempt has an
id that the stage writes into its `stage.json` last of all, and nothing else counts.
"""

import errno
import os
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import yaml

from synthkit.core.errors import ParamError, StageError, SynthkitError
from synthkit.core.loading import check_notebook
from synthkit.core.params import STAGES, StageParams
from synthkit.core.records import write_text
from synthkit.core.runs import chain_fingerprint, find_root, load_stage_record, new_attempt, previous_stage

KERNEL_ENV = {
    "GOMP_SPINCOUNT": "0",  # two OpenMP threads that spin beside other work collapse
    "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_MMAP_MAX_": "0",  # keeps freed pages: faster training on a CPU
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONHASHSEED": "0", "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
EXERCISE = "exercise"
Params = Mapping[str, StageParams]


def run_pipeline(stages: Params, chosen: list[str], out: TextIO, resume_hint: str) -> int:
    """Execute the chosen stages; 0 when all are complete. Raises SynthkitError naming stage, cause and fix."""
    root, run_dir = find_root(), find_root() / stages[chosen[0]].run_dir
    check_before(stages, chosen, root)
    write_params(run_dir, stages)
    executed = 0
    try:
        for name in chosen:
            executed += run_stage(name, stages[name], root, run_dir, out)
    except KeyboardInterrupt:
        out.write(f"\n{name} was interrupted; everything finished is kept. Go on with: {resume_hint}\n")
        raise
    finish_run(run_dir, out, executed > 0)
    return 0


def check_before(stages: Params, chosen: list[str], root: Path) -> None:
    """Everything that can be wrong and can be seen before the first kernel starts, told at once."""
    from synthkit.doctor import find_blockers

    faults = [fault for name in chosen for fault in check_notebook(root / "notebooks" / f"{name}.ipynb", STAGES[name])]
    if faults:
        raise ParamError("\n".join(faults), "the parameters cell must hold the names of synthkit/core/params.py")
    run_dir, before = root / stages[chosen[0]].run_dir, previous_stage(chosen[0])
    if before and load_stage_record(run_dir, before) is None:
        raise StageError(f"{chosen[0]} needs {before}, which has not finished in {stages[chosen[0]].run_dir}",
                         f"start earlier: --from {before[:2]}")
    pending = [name for name in chosen if not is_complete(name, stages[name], run_dir)]
    if blockers := find_blockers(stages, pending):
        raise SynthkitError("\n".join(f"{check.name}: {check.detail}" for check in blockers),
                            "; ".join(check.fix for check in blockers))


def is_complete(name: str, params: StageParams, run_dir: Path) -> bool:
    """Whether the stage's record is there and was made with these parameters and inputs."""
    record, before = load_stage_record(run_dir, name), previous_stage(name)
    below = load_stage_record(run_dir, before) if before else None
    if record is None or params.resume == "never" or (before and below is None):
        return False
    return bool(record["fingerprint"] == chain_fingerprint(name, params, below["fingerprint"] if below else ""))


def run_stage(name: str, params: StageParams, root: Path, run_dir: Path, out: TextIO) -> int:
    """Execute one notebook, unless its stage is complete already. Returns how many were executed."""
    if is_complete(name, params, run_dir):
        say_stage(out, name, load_stage_record(run_dir, name) or {}, "complete already")
        return 0
    attempt, started = new_attempt(), time.monotonic()
    out.write(f"{name:<16} running …" + ("\r" if out.isatty() else "\n"))
    out.flush()
    with kernel_environment(attempt):
        execute(name, params, root, run_dir, attempt)
    record = load_stage_record(run_dir, name)
    if record is None or record["attempt"] != attempt:
        raise StageError(f"{name} ended without its completion record",
                         f"look at the last cell of {run_dir.name}/notebooks/{name}.{attempt}.ipynb, then run again")
    say_stage(out, name, record, f"{time.monotonic() - started:.0f} s")
    return 1


def execute(name: str, params: StageParams, root: Path, run_dir: Path, attempt: str) -> None:
    """papermill on the notebook without its exercises. Raises StageError with the cell's error as cause and fix."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    output = run_dir / "notebooks" / f"{name}.{attempt}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    source = strip_exercises(root / "notebooks" / f"{name}.ipynb", output.with_suffix(".input.ipynb"))
    try:
        papermill.execute_notebook(
            str(source), str(output), parameters=params.model_dump(), cwd=str(root), progress_bar=False,
            kernel_name="python3", config=Config({"KernelManager": {"transport": "ipc"}}),
        )
    except PapermillExecutionError as error:
        raise explain_cell(name, error, output) from error
    except DeadKernelError as error:
        raise StageError(f"{name}: the kernel died (out of memory, or killed)",
                         "free memory or lower workers and batch sizes, then run the same command again") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise StageError(f"{name}: the disk is full", "free some space and run the same command again") from error
    finally:
        source.unlink(missing_ok=True)


def explain_cell(name: str, error: Any, output: Path) -> StageError:
    """A failed cell as cause and fix; an error of the kit brings its own fix."""
    if error.ename == "KeyboardInterrupt":
        raise KeyboardInterrupt
    cause, _, fix = str(error.evalue).partition("\n  fix: ")
    if "No space left on device" in cause:
        return StageError(f"{name}: the disk is full", "free some space and run the same command again")
    prefix = "" if fix else f"{error.ename}: "
    return StageError(f"{name} failed: {prefix}{cause}", fix or f"open {output} at the marked cell")


def strip_exercises(source: Path, target: Path) -> Path:
    """The notebook without the cells that are for readers only."""
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    notebook.cells = [c for c in notebook.cells if EXERCISE not in c.metadata.get("tags", [])]
    nbformat.write(notebook, target)
    return target


@contextmanager
def kernel_environment(attempt: str) -> Any:
    """The environment that kernels inherit; what the user has set stays."""
    added = {key: value for key, value in KERNEL_ENV.items() if key not in os.environ} | {"SYNTHKIT_ATTEMPT": attempt}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


def write_params(run_dir: Path, stages: Params) -> None:
    """The parameters of every stage as they were used, beside the results."""
    content = {name[3:]: params.model_dump() for name, params in stages.items()}
    write_text(run_dir / "params.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def say_stage(out: TextIO, name: str, record: Mapping[str, Any], how: str) -> None:
    lost = ", ".join(f"{reason} {n}" for reason, n in record.get("lost", {}).items())
    out.write(f"{name:<16} {record['kept']:>5} of {record['requested']:<5} {how}{'   lost: ' + lost if lost else ''}\n")
    out.flush()


def finish_run(run_dir: Path, out: TextIO, changed: bool) -> None:
    """Summary, report and the final table; an unchanged run keeps the files it has."""
    from synthkit.show.report import write_report
    from synthkit.show.summary import write_summary

    report = run_dir / "report.html"
    if changed or not report.exists():
        write_summary(run_dir)
        write_report(run_dir)
    out.write(format_results(yaml.safe_load((run_dir / "summary.json").read_text())))
    out.write(f"\nreport: {os.path.relpath(report)}\n")


def format_results(summary: Mapping[str, Any]) -> str:
    """The final table: what each stage kept and cost, then what each model reached."""
    lines = [f"\n{'stage':<16}{'requested':>10}{'kept':>7}{'seconds':>9}{'tokens':>12}{'USD':>9}"]
    for row in summary["stages"]:
        lines.append(f"{row['name']:<16}{row['requested']:>10}{row['kept']:>7}{row['seconds']:>9.1f}"
                     f"{row['tokens']:>12,}{row['usd']:>9.2f}")
    if summary["models"]:
        lines.append(f"\n{'model':<16}{'valid':>7}{'tasks above baseline':>22}{'AUP last':>10}{'AUP best':>10}")
    for row in summary["models"]:
        above = f"{row['tasks_above_baseline']} of {row['tasks']}"
        lines.append(f"{row['name']:<16}{row['valid_submission_rate']:>7.0%}{above:>22}"
                     f"{row['aup_last']:>10.3f}{row['aup_best']:>10.3f}")
    if gap := summary.get("aup_difference"):
        lines.append(f"\nAUP of {gap['models'][0]} minus {gap['models'][1]}: {gap['value']:.3f} "
                     f"(95 % interval {gap['low']:.3f} to {gap['high']:.3f}, max tau {summary['max_tau']:.1f})")
    return "\n".join(lines) + "\n"

