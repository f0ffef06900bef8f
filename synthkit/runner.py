"""The headless run: the notebooks in order through papermill, each accepted only on its own completion record.

Neither papermill's exit nor a notebook's metadata proves that a stage finished, so each attempt has an
id that the stage writes into its `stage.json` last of all, and nothing else counts.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import yaml

from synthkit.core.chain import (
    archive_stage,
    find_break,
    list_pending,
    load_stage_record,
    mark_code,
    may_reuse,
    uses_other_code,
)
from synthkit.core.errors import ParamError, StageError, SynthkitError
from synthkit.core.files import write_text
from synthkit.core.lock import hold_run
from synthkit.core.notebooks import check_notebook, execute_notebook, last_cell
from synthkit.core.opening import new_attempt
from synthkit.core.params import STAGES, StageParams
from synthkit.core.paths import find_root, show_path
from synthkit.core.profiles import read_yaml
from synthkit.show.terminal import format_results, format_stage

Params = Mapping[str, StageParams]


def run_pipeline(stages: Params, chosen: list[str], out: TextIO, remake: bool) -> int:
    """Execute the chosen stages; 0 when all are complete. Raises SynthkitError naming stage, cause and fix.

    `remake`: the first of them that other code has worked on, and all stages after it, are moved aside and made again.
    """
    root, run_dir = find_root(), find_root() / stages[chosen[0]].run_dir
    old = find_remade(chosen, run_dir) if remake else []
    check_before(stages, chosen, old, root)
    with hold_run(run_dir, "synthkit run") as lock:
        for name in old:
            archive_stage(run_dir, name)
        write_params(run_dir, stages, chosen)
        changed = [run_stage(name, stages[name], root, run_dir, lock, out) for name in chosen]
        finish_run(run_dir, out, any(changed))
    return 0


def find_remade(chosen: list[str], run_dir: Path) -> list[str]:
    """The first chosen stage that other code has worked on, and all after it; none while today's code made all."""
    first = next((name for name in chosen if uses_other_code(run_dir, name)), None)
    return list(STAGES)[list(STAGES).index(first):] if first else []


def check_before(stages: Params, chosen: list[str], remade: list[str], root: Path) -> None:
    """Everything that can be wrong and can be seen before the first kernel starts, told at once.

    What is made again leaves nothing complete behind it, so the needs of every stage that will run are looked at here.
    """
    from synthkit.doctor import find_blockers

    faults = [fault for name in chosen for fault in check_notebook(root / "notebooks" / f"{name}.ipynb", STAGES[name])]
    if faults:
        raise ParamError("\n".join(faults), "the parameters cell must hold the names in synthkit/core/params/")
    run_dir = root / stages[chosen[0]].run_dir
    if broken := find_break(run_dir, chosen[0]):
        stage, cause = broken
        raise StageError(f"{cause} ({stages[chosen[0]].run_dir})", f"start earlier: --from {stage[:2]}")
    pending = list_pending(stages, chosen, run_dir)
    pending = [name for name in chosen if name in pending or name in remade]
    if blockers := find_blockers(stages, pending):
        raise SynthkitError("\n".join(f"{check.name}: {check.detail}" for check in blockers),
                            "; ".join(check.fix for check in blockers))


def run_stage(name: str, params: StageParams, root: Path, run_dir: Path, lock: int, out: TextIO) -> bool:
    """Execute one notebook, unless its stage is complete already. Returns whether anything has changed."""
    if may_reuse(name, params, run_dir):
        marked = mark_code(run_dir, name)
        done = load_stage_record(run_dir, name) or {}
        how = "complete already" + (" (made by other code)" if done.get("made_by_other_code") else "")
        say(out, format_stage(done, how))
        return marked
    check_served(name, params)
    attempt, started = new_attempt(), time.monotonic()
    say(out, f"{name:<16} running …" + ("\r" if out.isatty() else "\n"))
    output = run_dir / "notebooks" / f"{name}.{attempt}.ipynb"
    execute_notebook(root / "notebooks" / f"{name}.ipynb", output, params, root, attempt, lock)
    record = load_stage_record(run_dir, name)
    if record is None or record["attempt"] != attempt:
        raise StageError(f"{name} ended in cell {last_cell(output)} without its completion record",
                         f"look at that cell of {show_path(output)}, then run again")
    say(out, format_stage(record, f"{time.monotonic() - started:.0f} s"))
    return True


def check_served(name: str, params: StageParams) -> None:
    """Right before the evaluation: whether the student's server answers, which earlier had nothing to serve."""
    from synthkit.doctor import check_student

    for check in check_student({name: params}):
        if not check.ok:
            raise SynthkitError(f"{check.name}: {check.detail}", check.fix)


def write_params(run_dir: Path, stages: Params, chosen: list[str]) -> None:
    """The parameters as they were used, beside the results; a stage that is not run now keeps what it had."""
    path = run_dir / "params.yaml"
    old = read_yaml(path) if path.exists() else {}
    kept = {name: old[name[3:]] for name in stages if name not in chosen and name[3:] in old}
    content = {name[3:]: kept.get(name, params.model_dump()) for name, params in stages.items()}
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def write_flat(stages: Params, chosen: list[str], folder: Path) -> list[Path]:
    """For each chosen stage the parameters of its notebook as one flat file, as `papermill -f` takes it."""
    written = []
    for name in chosen:
        path = folder / f"{name}.yaml"
        write_text(path, yaml.safe_dump(stages[name].model_dump(), sort_keys=False, allow_unicode=True))
        written.append(path)
    return written


def say(out: TextIO, text: str) -> None:
    """Write and show it at once, also where `out` is a pipe."""
    out.write(text)
    out.flush()


def finish_run(run_dir: Path, out: TextIO, changed: bool) -> None:
    """Summary, report and the final table; an unchanged run keeps the files it has."""
    from synthkit.show.report import write_report
    from synthkit.show.summary import write_summary

    report = run_dir / "report.html"
    if changed or not report.exists():
        write_summary(run_dir)
        write_report(run_dir)
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    say(out, f"{format_results(summary)}\nreport: {show_path(report)}\n")
