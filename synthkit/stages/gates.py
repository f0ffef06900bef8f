"""What a task has to pass to be called verified: checks in order of cost, each with a typed verdict and evidence.

Source: paper, stage 4, which asks only that the task runs. Everything beyond that is ours: it proves that the metric
means what its name says, that a broken submission fails, and that the baseline is neither trivial nor the end.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from synthkit.core.errors import TaskError
from synthkit.gym.backends.session_files import WORKSPACE
from synthkit.gym.csv_form import Part, check_form
from synthkit.gym.sandbox import Result, Sandbox, open_sandbox
from synthkit.gym.scoring import run_baseline, score_submission
from synthkit.gym.task import Task
from synthkit.gym.workspace import run_script
from synthkit.stages.drafting import write_draft
from synthkit.stages.leaks import find_leak
from synthkit.stages.metrics import share_of_way
from synthkit.stages.static_checks import Refused, check_static
from synthkit.stages.trial import Difficulty, Scores, Trial, lay_out_bench, make_corrupt, own_score, read_table

EVIDENCE_CHARS = 3000
CLOSE = 1e-6
REFERENCE = Path(__file__).with_name("reference.py")
REFERENCE_MODELS = ("boosting", "trees", "linear")


class Verdict(BaseModel):
    """What one gate said; `reason` is None when the task passed it."""

    gate: str
    reason: str | None = None
    evidence: str = ""
    final: bool = False


def check_leaks(trial: Trial) -> None:
    """No shortcut in the data gives the labels away."""
    leak = find_leak(read_table(trial), trial.metric, trial.leak)
    if leak:
        raise Refused(leak.reason, f"{leak.detail} reaches {leak.way:.1%} of the way from the trivial to the perfect "
                      f"score; from {trial.leak:.0%} on the task counts as leaking", final=True)


def check_schema(trial: Trial) -> None:
    """The files form a task that MLGym's format allows."""
    root = trial.folder / "root"
    write_draft(root, trial.proposal, trial.code, trial.data, trial.time_limit_s)
    try:
        trial.task = Task.load(root, trial.proposal.task_id)
    except TaskError as error:
        raise Refused("bad_schema", error.cause.replace(f"{root}/", "")) from error


def check_baseline(trial: Trial) -> None:
    """baseline.py runs in time and leaves a submission of the right form."""
    task = trial.loaded_task()
    result, submission = run_baseline(task, trial.sandbox)
    if result.limit == "memory" or (result.exit_code != 0 and "MemoryError" in result.output):
        raise Refused("baseline_memory", f"baseline.py needs more memory than the {trial.sandbox.memory_mb} MiB that "
                      f"there are. Its output:\n{result.output}")
    require_success("baseline", result, trial.time_limit_s)
    if submission is None:
        raise Refused("no_submission", f"baseline.py ended without submission.csv. Its output:\n{result.output}")
    if fault := check_form(task, submission):
        raise Refused("bad_submission", f"the submission.csv of baseline.py is not valid: {fault}")
    trial.submissions["baseline"] = submission


def check_evaluation(trial: Trial) -> None:
    """evaluate.py prints one JSON object with the metric, the same each time, and agrees with scikit-learn."""
    lay_out_bench(trial, trial.bench)
    with open_sandbox(trial.bench, trial.sandbox) as sandbox:
        trial.values = {name: evaluate(trial, sandbox, name) for name in trial.submissions}
        again = evaluate(trial, sandbox, "baseline")
        check_elsewhere(trial, sandbox)
    if again != trial.values["baseline"]:
        raise Refused("not_deterministic", f"evaluate.py gave {trial.values['baseline']} and then {again} for the "
                      "same submission")
    # What the perfect answer gets is for the next gate.
    for name, value in ((name, value) for name, value in trial.values.items() if name != "perfect"):
        own = own_score(trial, trial.submissions[name])
        if not math.isnan(own) and not np.isclose(own, value, rtol=CLOSE, atol=CLOSE):
            raise Refused("metric_mismatch", f"evaluate.py gives {value:.6g} to the {name} submission, where "
                          f"scikit-learn's {trial.proposal.metric} is {own:.6g}")


def check_elsewhere(trial: Trial, sandbox: Sandbox) -> None:
    """MLGym runs evaluate.py in the folder where the agent happens to be."""
    command = f"(cd / && python {WORKSPACE}/evaluate.py --submission_file {WORKSPACE}/submissions/baseline.csv)"
    result = sandbox.run(command, trial.time_limit_s)
    if result.exit_code != 0:
        raise Refused("needs_folder", f"evaluate.py works in the task's folder only; from another one it says:\n"
                      f"{result.output}")


def check_oracle(trial: Trial) -> None:
    """A perfect answer scores the optimum, and the same labels on the wrong rows do not: this proves the direction."""
    perfect, shuffled = trial.values["perfect"], trial.values["shuffled"]
    if not np.isclose(perfect, trial.metric.perfect, atol=CLOSE):
        raise Refused("wrong_optimum", f"the perfect answer scores {perfect:.6g}; the optimum of "
                      f"{trial.proposal.metric} is {trial.metric.perfect:g}")
    if np.isclose(perfect, shuffled, atol=CLOSE):
        raise Refused("blind_metric", f"shuffled labels score {shuffled:.6g}, as much as the perfect answer")


def check_corrupt(trial: Trial) -> None:
    """evaluate.py refuses broken submissions by itself: outside of this kit nothing else would."""
    accepted = []
    with open_sandbox(trial.bench, trial.sandbox) as sandbox:
        for name in make_corrupt(trial):
            result = sandbox.run(f"python evaluate.py --submission_file submissions/{name}.csv", trial.time_limit_s)
            if result.exit_code == 0:
                accepted.append(f"{name}: {result.output.strip()[:200]}")
    if accepted:
        raise Refused("accepts_corrupt", "evaluate.py exits with 0 for corrupt submissions:\n" + "\n".join(accepted))


def check_order(trial: Trial) -> None:
    """trivial < baseline < perfect, in the metric's direction, with a margin on both sides."""
    way = way_to_perfect(trial, trial.values["baseline"])
    shown = ", ".join(f"{name} {trial.values[name]:.6g}" for name in ("trivial", "baseline", "perfect"))
    if way < trial.margin:
        raise Refused("baseline_too_weak", f"the baseline is not better than a trivial answer: {shown}")
    if way > 1 - trial.margin:
        raise Refused("baseline_too_strong", f"the baseline leaves no room: {shown}")


def check_headroom(trial: Trial) -> None:
    """One of three generic models on all columns beats the baseline."""
    files = {**trial.loaded_task().public_files(), REFERENCE.name: REFERENCE}
    command = f"python {REFERENCE.name} {trial.proposal.task_kind}"
    kept = [f"reference_{name}.csv" for name in REFERENCE_MODELS]
    result, answers = run_script(files, command, trial.sandbox, trial.time_limit_s, keep=kept)
    require_success("reference", result, trial.time_limit_s)
    values = {name: own_score(trial, answer) for name, answer in answers.items()}
    ways = {name: way_to_perfect(trial, value) for name, value in values.items()}
    floor, best = way_to_perfect(trial, trial.values["baseline"]), max(ways, key=lambda name: ways[name])
    if not ways[best] > floor:
        raise Refused("no_headroom", f"the best reference model scores {values[best]:.6g}, the baseline "
                      f"{trial.values['baseline']:.6g}: a simpler baseline is needed")
    trial.reference = answers[best]
    trial.difficulty = Difficulty(
        share=round(sum(way > floor for way in ways.values()) / len(REFERENCE_MODELS), 4),
        gain=round((ways[best] - floor) / (1 - floor), 4), model=best.removeprefix("reference_").removesuffix(".csv"))


def measure_scores(trial: Trial) -> None:
    """The scores that the task will carry, made by the same scoring that an agent's submissions get."""
    baseline = trial.submissions["baseline"]
    trial.scores = Scores(
        trivial=score_part(trial, "trivial", trial.submissions["trivial"], "private"),
        baseline_public=score_part(trial, "baseline", baseline, "public"),
        baseline_private=score_part(trial, "baseline", baseline, "private"),
        reference=score_part(trial, "reference", trial.reference, "private"),
        perfect=trial.metric.perfect,
    )


def score_part(trial: Trial, name: str, submission: bytes, part: Part) -> float:
    score = score_submission(trial.loaded_task(), submission, part, trial.sandbox)
    if score.metrics is None:
        raise Refused("not_scored", f"the {name} submission gets no score on the {part} rows: {score.message}")
    return score.metrics[trial.proposal.metric]


def evaluate(trial: Trial, sandbox: Sandbox, name: str) -> float:
    """evaluate.py's number for one of the bench's submissions. Raises Refused when it prints anything else."""
    result = sandbox.run(f"python evaluate.py --submission_file submissions/{name}.csv", trial.time_limit_s)
    require_success("evaluate", result, trial.time_limit_s)
    try:
        metrics = json.loads(result.output)
    except (ValueError, RecursionError):
        metrics = None
    if not isinstance(metrics, dict):
        raise Refused("evaluate_output", f"evaluate.py has to print one JSON object and nothing else; it printed:\n"
                      f"{result.output}")
    value = metrics.get(trial.proposal.metric)
    if list(metrics) != [trial.proposal.metric] or isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Refused("wrong_metric", f"evaluate.py has to print the key {trial.proposal.metric!r} with a number; it "
                      f"printed {result.output.strip()}")
    return float(value)


def require_success(script: str, result: Result, limit_s: float) -> None:
    if result.timed_out:
        raise Refused(f"{script}_timeout", f"{script}.py timed out after {limit_s:g} seconds. Its output:\n"
                      f"{result.output}")
    if result.exit_code != 0:
        raise Refused(f"{script}_failed", f"{script}.py ended with exit code {result.exit_code}. Its output:\n"
                      f"{result.output}")


def way_to_perfect(trial: Trial, value: float) -> float:
    """How far a score is from the trivial one (0) to the perfect one (1)."""
    return -math.inf if math.isnan(value) else share_of_way(value, trial.values["trivial"], trial.metric.perfect)


GATES: tuple[tuple[str, Callable[[Trial], None]], ...] = (
    ("leaks", check_leaks),
    ("static", lambda trial: check_static(trial.code)),
    ("schema", check_schema),
    ("baseline", check_baseline),
    ("evaluate", check_evaluation),
    ("oracle", check_oracle),
    ("corrupt", check_corrupt),
    ("order", check_order),
    ("headroom", check_headroom),
    ("scores", measure_scores),
)


def run_gates(trial: Trial) -> list[Verdict]:
    """The verdicts up to the first gate that refuses. Raises SandboxError when no sandbox can be started."""
    verdicts: list[Verdict] = []
    for name, gate in GATES:
        try:
            gate(trial)
        except Refused as refusal:
            return [*verdicts, Verdict(gate=name, reason=refusal.reason, evidence=clean_evidence(refusal.evidence),
                                       final=refusal.final)]
        verdicts.append(Verdict(gate=name))
    return verdicts


def clean_evidence(text: str) -> str:
    """The end of a long text, without what differs from run to run."""
    steady = re.sub(r"0x[0-9a-f]{6,}", "0x…", text.strip())
    return steady if len(steady) <= EVIDENCE_CHARS else f"…{steady[-EVIDENCE_CHARS:]}"
