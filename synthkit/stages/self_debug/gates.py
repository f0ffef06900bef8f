"""What a task has to pass to be called verified: checks in order of cost, each with a typed verdict and evidence.

Source: paper, stage 4, which asks only that the task runs. Everything beyond that is ours: it proves that the metric
means what its name says, that a broken submission fails, and that the baseline is neither trivial nor the end.
"""

import json
import math
import re
from collections.abc import Callable

import numpy as np
from pydantic import BaseModel

from synthkit.core.errors import TaskError
from synthkit.core.text import cut_start
from synthkit.gym.sandbox import Result
from synthkit.gym.sandbox.workspace import place_files
from synthkit.gym.scoring import run_baseline
from synthkit.gym.scoring.csv_form import Part, check_form
from synthkit.gym.scoring.metrics import share_of_way
from synthkit.gym.task import Task
from synthkit.stages.common.task_writer import write_draft
from synthkit.stages.self_debug.candidate import (
    Difficulty,
    Ran,
    Scores,
    Trial,
    lay_out_bench,
    own_score,
    read_table,
)
from synthkit.stages.self_debug.evaluation_runs import Run, lay_out_part, try_evaluation
from synthkit.stages.self_debug.headroom import ask_for_solution, run_references
from synthkit.stages.self_debug.leaks import find_leak
from synthkit.stages.self_debug.static_checks import Refused, check_static

EVIDENCE_CHARS = 3000
CLOSE = 1e-6


class Verdict(BaseModel):
    """What one gate said; `reason` is None when the task passed it."""

    gate: str
    reason: str | None = None
    evidence: str = ""
    final: bool = False


def check_leaks(trial: Trial) -> None:
    """No shortcut in the data gives the labels away."""
    leak = find_leak(read_table(trial), trial.standard, trial.leak)
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
    lay_out_bench(trial)
    sound, broken = ({name: Run(f"submissions/{name}.csv") for name in names}
                     for names in (trial.submissions, trial.corrupt))
    again, elsewhere = Run("submissions/baseline.csv"), Run("submissions/baseline.csv", folder="/")
    trial.ran = try_evaluation(trial, sound | {"again": again, "elsewhere": elsewhere} | broken)
    trial.values = {name: read_value(trial, trial.ran[name]) for name in trial.submissions}
    again = read_value(trial, trial.ran["again"])
    check_elsewhere(trial.ran["elsewhere"])
    if again != trial.values["baseline"]:
        # Without the numbers: what differs from run to run would make the repair differ.
        raise Refused("not_deterministic", "evaluate.py gave two different scores to the same submission")
    # What the perfect answer gets is for the next gate.
    for name, value in ((name, value) for name, value in trial.values.items() if name != "perfect"):
        own = own_score(trial, trial.submissions[name])
        if not math.isnan(own) and not np.isclose(own, value, rtol=CLOSE, atol=CLOSE):
            raise Refused("metric_mismatch", f"evaluate.py gives {value:.6g} to the {name} submission, where "
                          f"scikit-learn's {trial.proposal.metric} is {own:.6g}")


def check_elsewhere(ran: Ran) -> None:
    """MLGym runs evaluate.py in the folder where the agent happens to be."""
    if ran.exit_code != 0:
        raise Refused("needs_folder", f"evaluate.py works in the task's folder only; from another one it says:\n"
                      f"{ran.output}")


def check_oracle(trial: Trial) -> None:
    """A perfect answer scores the optimum, and the same labels on the wrong rows do not: this proves the direction."""
    perfect, shuffled = trial.values["perfect"], trial.values["shuffled"]
    if not np.isclose(perfect, trial.perfect, atol=CLOSE):
        raise Refused("wrong_optimum", f"the perfect answer scores {perfect:.6g}; the optimum of "
                      f"{trial.proposal.metric} is {trial.perfect:g}")
    if np.isclose(perfect, shuffled, atol=CLOSE):
        raise Refused("blind_metric", f"shuffled labels score {shuffled:.6g}, as much as the perfect answer")


def check_corrupt(trial: Trial) -> None:
    """evaluate.py refuses broken submissions by itself: outside of this kit nothing else would."""
    for name in trial.corrupt:
        if trial.ran[name].timed_out:
            require_success("evaluate", trial.ran[name], trial.time_limit_s)
    accepted = [f"{name}: {trial.ran[name].output.strip()[:200]}" for name in trial.corrupt
                if trial.ran[name].exit_code == 0]
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
    """A generic model that knows all columns beats the baseline or, when none does, the teacher in one of its tries."""
    floor = way_to_perfect(trial, trial.values["baseline"])
    answers = run_references(trial)
    ways = score_answers(trial, answers)
    for number in range(1, trial.solve_tries + 1 if max(ways.values()) <= floor else 1):
        name = f"teacher_{number}"
        if solved := ask_for_solution(trial, number):
            trial.solution, answers[name] = solved
            ways |= score_answers(trial, {name: answers[name]})
        else:
            ways[name] = -math.inf
        if ways[name] > floor:
            break
    best = max(ways, key=lambda name: ways[name])
    if ways[best] <= floor:
        raise Refused("no_headroom", f"neither the generic models nor the teacher beat the baseline's "
                      f"{trial.values['baseline']:.6g}; {best} comes nearest. A simpler baseline is needed")
    trial.reference = answers[best]
    trial.difficulty = Difficulty(share=round(sum(way > floor for way in ways.values()) / len(ways), 4),
                                  gain=round((ways[best] - floor) / (1 - floor), 4), model=best)


def score_answers(trial: Trial, answers: dict[str, bytes]) -> dict[str, float]:
    """How far each answer gets to a perfect score, by evaluate.py; one that it refuses gets nowhere."""
    place_files({f"solutions/{name}.csv": answer for name, answer in answers.items()}, trial.bench, replace=True)
    ran = try_evaluation(trial, {name: Run(f"solutions/{name}.csv") for name in answers})
    return {name: way_to_perfect(trial, read_value(trial, said)) if said.exit_code == 0 else -math.inf
            for name, said in ran.items()}


def measure_scores(trial: Trial) -> None:
    """The scores that the task will carry, on the halves of the rows that an agent's submissions are scored on."""
    answers = {"trivial": trial.submissions["trivial"], "baseline": trial.submissions["baseline"],
               "reference": trial.reference}
    parts: list[tuple[str, Part]] = [("trivial", "private"), ("baseline", "public"), ("baseline", "private"),
                                     ("reference", "private")]
    ran = try_evaluation(trial, {f"{name}_{part}": lay_out_part(trial, name, answers[name], part)
                                 for name, part in parts})
    for name, part in parts:
        said = ran[f"{name}_{part}"]
        if said.exit_code != 0:
            raise Refused("not_scored", f"the {name} submission gets no score on the {part} rows: {said.output}")
    values = {name: read_value(trial, said) for name, said in ran.items()}
    trial.scores = Scores(trivial=values["trivial_private"], baseline_public=values["baseline_public"],
                          baseline_private=values["baseline_private"], reference=values["reference_private"],
                          perfect=trial.perfect)


def read_value(trial: Trial, result: Ran) -> float:
    """evaluate.py's number for a submission. Raises Refused when it failed or printed anything else."""
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


def require_success(script: str, result: Result | Ran, limit_s: float) -> None:
    if result.timed_out:
        raise Refused(f"{script}_timeout", f"{script}.py timed out after {limit_s:g} seconds. Its output:\n"
                      f"{result.output}")
    if result.exit_code != 0:
        raise Refused(f"{script}_failed", f"{script}.py ended with exit code {result.exit_code}. Its output:\n"
                      f"{result.output}")


def way_to_perfect(trial: Trial, value: float) -> float:
    """How far a score is from the trivial one (0) to the perfect one (1)."""
    return -math.inf if math.isnan(value) else share_of_way(value, trial.values["trivial"], trial.perfect)


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
    return cut_start(steady, EVIDENCE_CHARS)
