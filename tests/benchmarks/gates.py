"""What the gates of stage 04 cost beside the scripts that they run. By hand:

    PYTHONPATH=tests python tests/benchmarks/gates.py [N]

N sound tasks of the library (100 when no number is given; they come again when there are fewer) go through every gate.
The same baselines, evaluations and references then run alone: through the warm Python of one sandbox (`warm_s`), and in
forks of an interpreter with the libraries loaded and no sandbox at all (`forked_s`, the forks themselves included).
Prints one JSON line; all figures are CPU seconds, user and system, of all processes.
"""

import os

# As in a sandbox (gym/sandbox/in_sandbox/shim.py); it takes effect when the libraries are loaded.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"}

import gc
import importlib
import json
import resource
import runpy
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from kits.library_kit import PARAMS, SANDBOX, SOUND, build_proposal, lay_out

from synthkit.gym.sandbox import open_sandbox
from synthkit.gym.sandbox.backends.session_files import WORKSPACE
from synthkit.gym.sandbox.backends.warm import stop_zygotes
from synthkit.gym.sandbox.folders import open_folder
from synthkit.gym.sandbox.workspace import place_files, run_script
from synthkit.gym.scoring.csv_form import SUBMISSION, Part, restrict
from synthkit.gym.scoring.in_sandbox import GENERIC_MODELS
from synthkit.offline.library import load_library
from synthkit.records import Proposal, TaskCode
from synthkit.stages.self_debug.candidate import Candidate, lay_out_evaluation, open_candidate
from synthkit.stages.self_debug.gates import check_schema, run_gates
from synthkit.stages.self_debug.headroom import MODELS

BURN_S = 5  # Much more than the start of a warm interpreter may differ by.
BURN = f"import time\nwhile time.process_time() < {BURN_S}:\n    pass\n"
PARTS: tuple[tuple[str, Part], ...] = (("trivial", "private"), ("baseline", "public"), ("baseline", "private"),
                                       ("reference", "private"))


@dataclass(frozen=True)
class Script:
    """A run as the gates do it: a script of a folder, started in it or elsewhere."""

    kind: str
    home: Path
    args: list[str]
    folder: Path | None = None


def main(n: int) -> None:
    for name in SANDBOX.warm_modules:
        importlib.import_module(name)
    with open_folder() as name:
        folder = Path(name)
        slugs = [SOUND[at % len(SOUND)] for at in range(n)]
        proposals = {slug: lay_out_task(slug, folder / slug) for slug in dict.fromkeys(slugs)}
        scripts = {slug: list_scripts(proposals[slug], folder / slug) for slug in proposals}
        gc.freeze()
        check_accounting()
        gates, kit = measure(lambda: [try_gates(proposals[slug], folder / slug) for slug in slugs])
        warm, _ = measure(lambda: run_warm(folder, [script for slug in slugs for script in scripts[slug]]))
        spent: dict[str, float] = dict.fromkeys(("baseline", "evaluate", "reference"), 0.0)
        for script in (script for slug in slugs for script in scripts[slug]):
            spent[script.kind] += run_forked(script)
    forked = sum(spent.values())
    figures = {"gates_s": gates, "kit_process_s": kit, "warm_s": warm, "ratio_to_warm": gates / warm,
               "forked_s": forked, "ratio_to_forked": gates / forked}
    figures |= {f"{kind}_forked_s": cpu_s for kind, cpu_s in spent.items()}
    line = {"tasks": n, "backend": SANDBOX.backend} | {name: round(value, 2) for name, value in figures.items()}
    sys.stdout.write(json.dumps(line) + "\n")


def lay_out_task(slug: str, folder: Path) -> Proposal:
    entry = load_library()[slug]
    folder.mkdir()
    lay_out(entry, entry.good_files(), folder)
    rows = [sum(1 for _ in (folder / f"data/{name}.csv").open()) - 1 for name in ("train", "test")]
    return build_proposal(entry, *rows)


def open_laid_out(proposal: Proposal, folder: Path) -> AbstractContextManager[Candidate]:
    code = TaskCode(**load_library()[proposal.task_id].good_files())
    return open_candidate(proposal, code, folder / "data", time_limit_s=60, margin=PARAMS.margin, leak=PARAMS.leak,
                      seed=0, sandbox=SANDBOX)


def try_gates(proposal: Proposal, folder: Path) -> None:
    with open_laid_out(proposal, folder) as candidate:
        last = run_gates(candidate)[-1]
    if last.reason:
        raise SystemExit(f"{proposal.task_id}: {last.reason}: {last.evidence}")


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of work in a process of its own with all its descendants, and of that process alone."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            # The warm interpreter counts a run's times when it hears of its end: of the last one during the next.
            run_script({"end.py": ""}, "python end.py", SANDBOX, 60)
            own = resource.getrusage(resource.RUSAGE_SELF)
            os.write(write, str(own.ru_utime + own.ru_stime).encode())
            status = 0
        finally:
            stop_zygotes()
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as file:
        own = file.read()
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit("the measured process failed")
    return usage.ru_utime + usage.ru_stime, float(own)


def check_accounting() -> None:
    """What is burnt in a sandbox has to be seen from here: not every way of reaping a process keeps its times."""
    idle, busy = (measure(lambda text=text: run_script({"burn.py": text}, "python burn.py", SANDBOX, 60))[0]
                  for text in ("", BURN))
    if busy - idle < 0.8 * BURN_S:
        raise SystemExit(f"of {BURN_S} seconds burnt in a sandbox {busy - idle:.2f} were seen")


def list_scripts(proposal: Proposal, folder: Path) -> list[Script]:
    """Every run that the gates make of a sound task, with what it reads laid out under the task's folder."""
    work, laid_out = folder / "work", folder / "laid_out"
    with open_laid_out(proposal, folder) as candidate:
        check_schema(candidate)
        place_files(candidate.loaded_task().public_files() | {GENERIC_MODELS.name: GENERIC_MODELS}, work)
        scripts = [Script("baseline", work, ["baseline.py"]),
                   Script("reference", work, [GENERIC_MODELS.name, proposal.task_kind])]
        for script in scripts:
            run_forked(script)
        candidate.submissions["baseline"] = (work / SUBMISSION).read_bytes()
        lay_out_evaluation(candidate)
        source = candidate.evaluation_folder
        place_files({str(path.relative_to(source)): path for path in source.rglob("*") if path.is_file()}, laid_out)
        scripts += [evaluate(laid_out, f"submissions/{name}.csv")
                    for name in (*candidate.submissions, "baseline", *candidate.corrupt)]
        scripts.append(evaluate(laid_out, "submissions/baseline.csv", Path("/")))
        for name in (f"reference_{name}" for name in MODELS if (work / f"reference_{name}.csv").exists()):
            place_files({f"submissions/{name}.csv": work / f"{name}.csv"}, laid_out)
            scripts.append(evaluate(laid_out, f"submissions/{name}.csv"))
        candidate.submissions["reference"] = (work / "reference_boosting.csv").read_bytes()
        scripts += [lay_out_part(candidate, name, part, folder / f"{name}_{part}") for name, part in PARTS]
    return scripts


def lay_out_part(candidate: Candidate, name: str, part: Part, home: Path) -> Script:
    task = candidate.loaded_task()
    kept = {path: task.all_files()[path] for path in ("evaluate.py", "data/test.csv")}
    place_files(kept | restrict(task, candidate.submissions[name], part), home)
    return evaluate(home, SUBMISSION)


def evaluate(home: Path, submission: str, folder: Path | None = None) -> Script:
    return Script("evaluate", home, ["evaluate.py", "--submission_file", submission], folder)


def run_warm(folder: Path, scripts: list[Script]) -> None:
    """Through the warm Python of one sandbox that is open all the time."""
    with open_sandbox(folder, SANDBOX) as sandbox:
        for script in scripts:
            home = f"{WORKSPACE}/{script.home.relative_to(folder)}"
            name, *args = script.args
            if script.folder:
                name, args = f"{home}/{name}", [*args[:-1], f"{home}/{args[-1]}"]
            sandbox.run(f"(cd {script.folder or home} && python {name} {' '.join(args)})", 60)


def run_forked(script: Script) -> float:
    """CPU seconds of a run in a fork of this process, and of the fork."""
    before = time.process_time()
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.chdir(script.folder or script.home)
        name, *args = script.args
        if script.folder:
            args[-1] = str(script.home / args[-1])
        sys.argv, sys.path[0] = [name, *args], str(script.home)
        try:
            runpy.run_path(str(script.home / name), run_name="__main__")
        finally:
            os._exit(0)
    usage = os.wait4(pid, 0)[2]
    return usage.ru_utime + usage.ru_stime + time.process_time() - before


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
