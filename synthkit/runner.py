"""The headless run: the notebooks in order through papermill, each accepted only on its own completion record.

Neither papermill's exit nor a notebook's metadata proves that a stage finished, so each attempt has an
id that the stage writes into its `stage.json` last of all, and nothing else counts.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import yaml

from synthkit.core.errors import ParamError, StageError, SynthkitError
from synthkit.core.loading import check_notebook, read_yaml
from synthkit.core.params import STAGES, StageParams
from synthkit.core.records import write_text
from synthkit.core.runs import chain_fingerprint, find_root, load_stage_record, new_attempt, previous_stage
from synthkit.kernels import execute_notebook, last_cell

Params = Mapping[str, StageParams]


def run_pipeline(stages: Params, chosen: list[str], out: TextIO) -> int:
    """Execute the chosen stages; 0 when all are complete. Raises SynthkitError naming stage, cause and fix."""
    root, run_dir = find_root(), find_root() / stages[chosen[0]].run_dir
    check_before(stages, chosen, root)
    with hold_run(run_dir):
        write_params(run_dir, stages, chosen)
        executed = sum(run_stage(name, stages[name], root, run_dir, out) for name in chosen)
        finish_run(run_dir, out, executed > 0)
    return 0


@contextmanager
def hold_run(run_dir: Path) -> Iterator[None]:
    """Keep a second runner out of the same folder, where each would move the other's stages aside."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(f"another `synthkit run` is at work in {os.path.relpath(run_dir)}",
                             "wait until it ends, or name this run: --run NAME") from error
        yield


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
    output = run_dir / "notebooks" / f"{name}.{attempt}.ipynb"
    execute_notebook(root / "notebooks" / f"{name}.ipynb", output, params, root, attempt)
    record = load_stage_record(run_dir, name)
    if record is None or record["attempt"] != attempt:
        raise StageError(f"{name} ended in cell {last_cell(output)} without its completion record",
                         f"look at that cell of {os.path.relpath(output)}, then run again")
    say_stage(out, name, record, f"{time.monotonic() - started:.0f} s")
    return 1


def write_params(run_dir: Path, stages: Params, chosen: list[str]) -> None:
    """The parameters as they were used, beside the results; a stage that is not run now keeps what it had."""
    path = run_dir / "params.yaml"
    old = read_yaml(path) if path.exists() else {}
    kept = {name: old[name[3:]] for name in stages if name not in chosen and name[3:] in old}
    content = {name[3:]: kept.get(name, params.model_dump()) for name, params in stages.items()}
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


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

