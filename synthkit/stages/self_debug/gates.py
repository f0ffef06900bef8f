"""What a task has to pass to be called verified: checks in order of cost, each with a typed verdict and evidence.

Source: paper, stage 4, which asks only that the task runs. Everything beyond that is ours: it proves that the metric
means what its name says, that a broken submission fails, and that the baseline is neither trivial nor the end.
"""

import json
import math
import re
from collections.abc import Callable

import numpy as np

from synthkit.core.errors import TaskError
from synthkit.core.text import cut_start
from synthkit.gym.sandbox import Result
from synthkit.gym.sandbox.workspace import place_files
from synthkit.gym.scoring import run_baseline
from synthkit.gym.scoring.csv_form import Part, check_form
from synthkit.gym.scoring.metrics import normalise_score
from synthkit.gym.task import Task
from synthkit.records import MeasuredDifficulty, Scores, Verdict
from synthkit.stages.common.task_writer import write_draft
from synthkit.stages.self_debug.candidate import (
    Candidate,
    EvaluationOutcome,
    lay_out_evaluation,
    own_score,
    read_table,
)
from synthkit.stages.self_debug.evaluation_runs import EvaluationRun, lay_out_part, run_evaluations
from synthkit.stages.self_debug.headroom import ask_for_solution, run_generic_models
from synthkit.stages.self_debug.leaks import find_leak
from synthkit.stages.self_debug.static_checks import GateRefusal, check_static

EVIDENCE_CHARS = 3000
CLOSE = 1e-6


def check_leaks(candidate: Candidate) -> None:
    """Raises GateRefusal when a shortcut in the data gives the labels away."""
    leak = find_leak(read_table(candidate), candidate.standard, candidate.leak)
    if leak:
        raise GateRefusal(
            leak.reason, f"{leak.detail} reaches {leak.normalised_score:.1%} of the way from the trivial to the "
            f"perfect score; from {candidate.leak:.0%} on the task counts as leaking", final=True)


def check_schema(candidate: Candidate) -> None:
    """Raises GateRefusal when the files form no task that MLGym's format allows."""
    root = candidate.folder / "root"
    write_draft(root, candidate.proposal, candidate.code, candidate.data, candidate.time_limit_s)
    try:
        candidate.task = Task.load(root, candidate.proposal.task_id)
    except TaskError as error:
        raise GateRefusal("bad_schema", error.cause.replace(f"{root}/", "")) from error


def check_baseline(candidate: Candidate) -> None:
    """Raises GateRefusal unless baseline.py runs in time and leaves a submission of the right form."""
    task = candidate.loaded_task()
    result, submission = run_baseline(task, candidate.sandbox)
    if result.limit == "memory" or (result.exit_code != 0 and "MemoryError" in result.output):
        raise GateRefusal(
            "baseline_memory", f"baseline.py needs more memory than the {candidate.sandbox.memory_mb} MiB that there "
            f"are. Its output:\n{result.output}")
    require_success("baseline", result, candidate.time_limit_s)
    if submission is None:
        raise GateRefusal("no_submission", f"baseline.py ended without submission.csv. Its output:\n{result.output}")
    if fault := check_form(task, submission):
        raise GateRefusal("bad_submission", f"the submission.csv of baseline.py is not valid: {fault}")
    candidate.submissions["baseline"] = submission


def check_evaluation(candidate: Candidate) -> None:
    """Raises GateRefusal unless evaluate.py prints the metric, the same each time and as scikit-learn has it."""
    lay_out_evaluation(candidate)
    sound, broken = ({name: EvaluationRun(f"submissions/{name}.csv") for name in names}
                     for names in (candidate.submissions, candidate.corrupt))
    repeated = {"again": EvaluationRun("submissions/baseline.csv"),
                "elsewhere": EvaluationRun("submissions/baseline.csv", folder="/")}
    candidate.outcomes = run_evaluations(candidate, sound | repeated | broken)
    candidate.values = {name: read_value(candidate, candidate.outcomes[name]) for name in candidate.submissions}
    again = read_value(candidate, candidate.outcomes["again"])
    check_elsewhere(candidate.outcomes["elsewhere"])
    if again != candidate.values["baseline"]:
        # Without the numbers: what differs from run to run would make the repair differ.
        raise GateRefusal("not_deterministic", "evaluate.py gave two different scores to the same submission")
    # What the perfect answer gets is for the next gate.
    for name, value in ((name, value) for name, value in candidate.values.items() if name != "perfect"):
        own = own_score(candidate, candidate.submissions[name])
        if not math.isnan(own) and not np.isclose(own, value, rtol=CLOSE, atol=CLOSE):
            raise GateRefusal("metric_mismatch", f"evaluate.py gives {value:.6g} to the {name} submission, where "
                          f"scikit-learn's {candidate.proposal.metric} is {own:.6g}")


def check_elsewhere(outcome: EvaluationOutcome) -> None:
    """Raises GateRefusal unless evaluate.py works from another folder too, as MLGym may run it."""
    if outcome.exit_code != 0:
        raise GateRefusal("needs_folder", f"evaluate.py works in the task's folder only; from another one it says:\n"
                      f"{outcome.output}")


def check_oracle(candidate: Candidate) -> None:
    """Raises GateRefusal unless a perfect answer scores the optimum and shuffled labels score less."""
    perfect, shuffled = candidate.values["perfect"], candidate.values["shuffled"]
    if not np.isclose(perfect, candidate.perfect, atol=CLOSE):
        raise GateRefusal("wrong_optimum", f"the perfect answer scores {perfect:.6g}; the optimum of "
                      f"{candidate.proposal.metric} is {candidate.perfect:g}")
    if np.isclose(perfect, shuffled, atol=CLOSE):
        raise GateRefusal("blind_metric", f"shuffled labels score {shuffled:.6g}, as much as the perfect answer")


def check_corrupt(candidate: Candidate) -> None:
    """Raises GateRefusal when evaluate.py accepts a broken submission, which nothing outside of this kit would see."""
    for name in candidate.corrupt:
        if candidate.outcomes[name].timed_out:
            require_success("evaluate", candidate.outcomes[name], candidate.time_limit_s)
    accepted = [f"{name}: {candidate.outcomes[name].output.strip()[:200]}" for name in candidate.corrupt
                if candidate.outcomes[name].exit_code == 0]
    if accepted:
        raise GateRefusal("accepts_corrupt",
                          "evaluate.py exits with 0 for corrupt submissions:\n" + "\n".join(accepted))


def check_order(candidate: Candidate) -> None:
    """Raises GateRefusal unless trivial < baseline < perfect in the metric's direction, with a margin on both sides."""
    score = normalise(candidate, candidate.values["baseline"])
    shown = ", ".join(f"{name} {candidate.values[name]:.6g}" for name in ("trivial", "baseline", "perfect"))
    if score < candidate.margin:
        raise GateRefusal("baseline_too_weak", f"the baseline is not better than a trivial answer: {shown}")
    if score > 1 - candidate.margin:
        raise GateRefusal("baseline_too_strong", f"the baseline leaves no room: {shown}")


def check_headroom(candidate: Candidate) -> None:
    """Raises GateRefusal when neither a generic model on all columns nor the teacher's solution beats the baseline."""
    floor = normalise(candidate, candidate.values["baseline"])
    answers = run_generic_models(candidate)
    scores = score_answers(candidate, answers)
    for number in range(1, candidate.solver_attempts + 1 if max(scores.values()) <= floor else 1):
        name = f"teacher_{number}"
        if solved := ask_for_solution(candidate, number):
            candidate.solution, answers[name] = solved
            scores |= score_answers(candidate, {name: answers[name]})
        else:
            scores[name] = -math.inf
        if scores[name] > floor:
            break
    best = max(scores, key=lambda name: scores[name])
    if scores[best] <= floor:
        raise GateRefusal("no_headroom", f"neither the generic models nor the teacher beat the baseline's "
                      f"{candidate.values['baseline']:.6g}; {best} comes nearest. A simpler baseline is needed")
    candidate.reference = answers[best]
    passed = sum(score > floor for score in scores.values())
    candidate.difficulty = MeasuredDifficulty(
        pass_rate=round(passed / len(scores), 4), gain=round((scores[best] - floor) / (1 - floor), 4), model=best)


def score_answers(candidate: Candidate, answers: dict[str, bytes]) -> dict[str, float]:
    """The normalised score of each answer by evaluate.py; minus infinity for one that it refuses."""
    files = {f"solutions/{name}.csv": answer for name, answer in answers.items()}
    place_files(files, candidate.evaluation_folder, replace=True)
    outcomes = run_evaluations(candidate, {name: EvaluationRun(f"solutions/{name}.csv") for name in answers})
    return {name: normalise(candidate, read_value(candidate, outcome)) if outcome.exit_code == 0 else -math.inf
            for name, outcome in outcomes.items()}


def measure_scores(candidate: Candidate) -> None:
    """The scores that the task will carry, on the halves of the rows that an agent's submissions are scored on."""
    answers = {"trivial": candidate.submissions["trivial"], "baseline": candidate.submissions["baseline"],
               "reference": candidate.reference}
    parts: list[tuple[str, Part]] = [("trivial", "private"), ("baseline", "public"), ("baseline", "private"),
                                     ("reference", "private")]
    outcomes = run_evaluations(candidate, {f"{name}_{part}": lay_out_part(candidate, name, answers[name], part)
                                 for name, part in parts})
    for name, part in parts:
        outcome = outcomes[f"{name}_{part}"]
        if outcome.exit_code != 0:
            raise GateRefusal("not_scored", f"the {name} submission gets no score on the {part} rows: {outcome.output}")
    values = {name: read_value(candidate, outcome) for name, outcome in outcomes.items()}
    candidate.scores = Scores(trivial=values["trivial_private"], baseline_public=values["baseline_public"],
                          baseline_private=values["baseline_private"], reference=values["reference_private"],
                          perfect=candidate.perfect)


def read_value(candidate: Candidate, result: EvaluationOutcome) -> float:
    """evaluate.py's number for a submission. Raises GateRefusal when it failed or printed anything else."""
    require_success("evaluate", result, candidate.time_limit_s)
    try:
        metrics = json.loads(result.output)
    except (ValueError, RecursionError):
        metrics = None
    if not isinstance(metrics, dict):
        raise GateRefusal("evaluate_output", f"evaluate.py has to print one JSON object and nothing else; it printed:\n"
                      f"{result.output}")
    value = metrics.get(candidate.proposal.metric)
    if list(metrics) != [candidate.proposal.metric] or isinstance(value, bool) or not isinstance(value, (int, float)):
        raise GateRefusal(
            "wrong_metric", f"evaluate.py has to print the key {candidate.proposal.metric!r} with a number; it printed "
            f"{result.output.strip()}")
    return float(value)


def require_success(script: str, result: Result | EvaluationOutcome, limit_s: float) -> None:
    """Raises GateRefusal when a script ran out of its time, or ended with another exit code than 0."""
    if result.timed_out:
        raise GateRefusal(f"{script}_timeout", f"{script}.py timed out after {limit_s:g} seconds. Its output:\n"
                      f"{result.output}")
    if result.exit_code != 0:
        raise GateRefusal(f"{script}_failed", f"{script}.py ended with exit code {result.exit_code}. Its output:\n"
                      f"{result.output}")


def normalise(candidate: Candidate, value: float) -> float:
    """A score on the scale from the trivial one (0) to the perfect one (1); minus infinity for NaN."""
    return -math.inf if math.isnan(value) else normalise_score(value, candidate.values["trivial"], candidate.perfect)


GATES: tuple[tuple[str, Callable[[Candidate], None]], ...] = (
    ("leaks", check_leaks),
    ("static", lambda candidate: check_static(candidate.code)),
    ("schema", check_schema),
    ("baseline", check_baseline),
    ("evaluate", check_evaluation),
    ("oracle", check_oracle),
    ("corrupt", check_corrupt),
    ("order", check_order),
    ("headroom", check_headroom),
    ("scores", measure_scores),
)


def run_gates(candidate: Candidate) -> list[Verdict]:
    """The verdicts up to the first gate that refuses. Raises SandboxError when no sandbox can be started."""
    verdicts: list[Verdict] = []
    for name, gate in GATES:
        try:
            gate(candidate)
        except GateRefusal as refusal:
            return [*verdicts, Verdict(gate=name, reason=refusal.reason, evidence=clean_evidence(refusal.evidence),
                                       final=refusal.final)]
        verdicts.append(Verdict(gate=name))
    return verdicts


def clean_evidence(text: str) -> str:
    """The end of a long text, without what differs from run to run."""
    steady = re.sub(r"0x[0-9a-f]{6,}", "0x…", text.strip())
    return cut_start(steady, EVIDENCE_CHARS)
