"""Proof that a task can be solved: generic models on all its columns and, when none will do, the teacher itself."""

from synthkit.core.errors import ReplyError
from synthkit.gym.sandbox.workspace import place_files, run_script, take_file
from synthkit.gym.scoring.csv_form import SUBMISSION, check_form
from synthkit.gym.scoring.in_sandbox import GENERIC_MODELS
from synthkit.gym.task import SOLUTION
from synthkit.stages.self_debug.candidate import Candidate
from synthkit.stages.self_debug.static_checks import GateRefusal, check_script

MODELS = ("boosting", "trees", "linear", "median", "log")


def run_generic_models(candidate: Candidate) -> dict[str, bytes]:
    """The generic models' submissions, by the model; the script is the kit's own, so it may run beside the answers."""
    files = {**candidate.loaded_task().public_files(), GENERIC_MODELS.name: GENERIC_MODELS}
    folder, place, limit_s = candidate.evaluation_folder, GENERIC_MODELS.stem, candidate.time_limit_s
    place_files({f"{place}/{name}": path for name, path in files.items()}, folder, replace=True)
    result = candidate.session.run(f"(cd {place} && python {GENERIC_MODELS.name} {candidate.proposal.task_kind})",
                                   limit_s)
    if result.exit_code != 0:
        end = f"did not end within {limit_s:g} seconds" if result.timed_out else f"failed: {result.output}"
        raise GateRefusal("reference_timeout" if result.timed_out else "reference_failed", f"the generic models: {end}")
    left = {name: take_file(folder, f"{place}/reference_{name}.csv") for name in MODELS}
    return {name: answer for name, answer in left.items() if answer is not None}


def ask_for_solution(candidate: Candidate, number: int) -> tuple[str, bytes] | None:
    """The teacher's own solution and its submission; None when there is none that is valid.

    It runs where an agent's code would: without the answers.
    """
    assert candidate.solve is not None, "somebody has to be asked"
    try:
        source = candidate.solve(number)
        check_script(SOLUTION, source)
    except (ReplyError, GateRefusal):
        return None
    task = candidate.loaded_task()
    _, left = run_script({**task.public_files(), SOLUTION: source}, f"python {SOLUTION}", candidate.sandbox,
                         candidate.time_limit_s, keep=[SUBMISSION])
    submission = left.get(SUBMISSION)
    return (source, submission) if submission is not None and not check_form(task, submission) else None
