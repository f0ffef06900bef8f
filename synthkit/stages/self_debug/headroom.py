"""Proof that a task can be solved: generic models on all its columns and, when none will do, the teacher itself."""

from synthkit.core.errors import ReplyError
from synthkit.gym.sandbox.workspace import place_files, run_script, take_file
from synthkit.gym.scoring.csv_form import SUBMISSION, check_form
from synthkit.gym.scoring.in_sandbox import GENERIC_MODELS
from synthkit.gym.task import SOLUTION
from synthkit.stages.self_debug.candidate import Trial
from synthkit.stages.self_debug.static_checks import Refused, check_script

MODELS = ("boosting", "trees", "linear", "median", "log")


def run_references(trial: Trial) -> dict[str, bytes]:
    """The generic models' submissions, by the model; the script is the kit's own, so it may run beside the answers."""
    files = {**trial.loaded_task().public_files(), GENERIC_MODELS.name: GENERIC_MODELS}
    place_files({f"{GENERIC_MODELS.stem}/{name}": path for name, path in files.items()}, trial.bench, replace=True)
    command = f"(cd {GENERIC_MODELS.stem} && python {GENERIC_MODELS.name} {trial.proposal.task_kind})"
    result = trial.session.run(command, trial.time_limit_s)
    if result.exit_code != 0:
        end = f"did not end within {trial.time_limit_s:g} seconds" if result.timed_out else f"failed: {result.output}"
        raise Refused("reference_timeout" if result.timed_out else "reference_failed", f"the generic models: {end}")
    left = {name: take_file(trial.bench, f"{GENERIC_MODELS.stem}/reference_{name}.csv") for name in MODELS}
    return {name: answer for name, answer in left.items() if answer is not None}


def ask_for_solution(trial: Trial, number: int) -> tuple[str, bytes] | None:
    """The teacher's own solution and its submission; None when there is none that is valid.

    It runs where an agent's code would: without the answers.
    """
    assert trial.solve is not None, "somebody has to be asked"
    try:
        source = trial.solve(number)
        check_script(SOLUTION, source)
    except (ReplyError, Refused):
        return None
    task = trial.loaded_task()
    _, left = run_script({**task.public_files(), SOLUTION: source}, f"python {SOLUTION}", trial.sandbox,
                         trial.time_limit_s, keep=[SUBMISSION])
    submission = left.get(SUBMISSION)
    return (source, submission) if submission is not None and not check_form(task, submission) else None
