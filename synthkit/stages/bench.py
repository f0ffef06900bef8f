"""The bench of a trial: evaluate.py beside the answers, in one sandbox, tried on many submissions at one go."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from synthkit.gym.csv_form import SUBMISSION, Part, restrict
from synthkit.gym.sandbox import make_plain
from synthkit.gym.workspace import place_files, take_file
from synthkit.stages.trial import Ran, Trial

RUNNER = Path(__file__).with_name("repeat_runs.py")
EVALUATE = "evaluate.py"
PLAN, RESULTS = ".runs.json", ".ran.jsonl"
# Of an action with many runs, beside their own limits.
GRACE_S = 60


@dataclass(frozen=True)
class Run:
    """One evaluation: paths relative to the bench, but for a folder elsewhere."""

    submission: str
    script: str = EVALUATE
    folder: str = "."


def try_evaluation(trial: Trial, runs: Mapping[str, Run]) -> dict[str, Ran]:
    """How each run ended, by its name. One after a run that timed out, or that broke the bench, is told as failed."""
    plan = {"limit_s": trial.time_limit_s, "output_bytes": trial.sandbox.output_kb << 10,
            "runs": [{"name": name, **asdict(run)} for name, run in runs.items()]}
    place_files({PLAN: json.dumps(plan), RESULTS: "", RUNNER.name: RUNNER}, trial.bench, replace=True)
    action = trial.session.run(f"python {RUNNER.name} {PLAN} {RESULTS}", trial.time_limit_s * len(runs) + GRACE_S)
    told = {ran.name: ran for ran in read_results(trial.bench)}
    rest = Ran(name="", exit_code=action.exit_code or 1, timed_out=action.timed_out, output=action.output)
    return {name: told.get(name, rest) for name in runs}


def read_results(bench: Path) -> list[Ran]:
    """What the runner wrote; the scripts that it runs could have written there too, so nothing is taken on trust."""
    lines = (take_file(bench, RESULTS) or b"").splitlines()
    try:
        found = [Ran.model_validate_json(line) for line in lines]
    except ValidationError:
        return []
    return [ran.model_copy(update={"output": make_plain(ran.output)}) for ran in found]


def lay_out_part(trial: Trial, name: str, submission: bytes, part: Part) -> Run:
    """A folder of the bench as the scoring lays it out: the rows of one part, of answers and submission alike."""
    task, folder = trial.loaded_task(), f"parts/{name}_{part}"
    files = task.all_files()
    kept = {path: files[path] for path in (EVALUATE, "data/test.csv")} | restrict(task, submission, part)
    place_files({f"{folder}/{path}": content for path, content in kept.items()}, trial.bench)
    return Run(f"{folder}/{SUBMISSION}", f"{folder}/{EVALUATE}", folder)
