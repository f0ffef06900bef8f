"""Tasks as a folder that is laid over an MLGym checkout and runs there as it is.

MLGym v0.1.1 leaves `secret_files` unimplemented, scores on all test rows, and runs evaluate.py in the agent's shell, so
labels that are secret here are readable there; the README that is written beside the tasks says so. Baseline scores are
those on all test rows, as MLGym would measure them.
"""

import shutil
from pathlib import Path

from synthkit.core.errors import TaskError
from synthkit.core.params import SandboxParams
from synthkit.export.selection import require_empty
from synthkit.gym.scoring import run_baseline, score_submission
from synthkit.gym.task import Task
from synthkit.gym.task.config import write_section

README = """# {count} tasks in MLGym's format

Copy `configs/` and `data/` over a checkout of MLGym (written for v0.1.1), then run one there:

    python run.py --task_config_path tasks/{first}.yaml ...

Made by synthkit, which checked that every baseline runs, that each evaluation measures what it says, and that a better
answer than the baseline exists. MLGym does not implement `secret_files`: there an agent can read data/answers.csv. Each
task's source and licence stand in data/<task>/synthkit.yaml.
"""


def export_mlgym(tasks: list[Task], out: Path, sandbox: SandboxParams) -> list[Path]:
    """Write the overlay; returns the task files. Raises TaskError when the folder is not empty or a baseline fails."""
    require_empty(out)
    written = [write_overlay(task, out, sandbox) for task in tasks]
    (out / "README.md").write_text(README.format(count=len(tasks), first=tasks[0].id), encoding="utf-8")
    return written


def write_overlay(task: Task, out: Path, sandbox: SandboxParams) -> Path:
    shutil.copytree(task.root / "data" / task.id, out / "data" / task.id)
    config = task.config.model_copy(update={"baseline_scores": [measure_whole(task, sandbox)]})
    path = out / "configs" / "tasks" / f"{task.id}.yaml"
    write_section(path, config)
    for name, dataset in zip(config.dataset_configs, task.datasets, strict=True):
        write_section(out / "configs" / name, dataset)
    return path


def measure_whole(task: Task, sandbox: SandboxParams) -> dict[str, float]:
    """The baseline's score on all test rows."""
    _, submission = run_baseline(task, sandbox)
    score = score_submission(task, submission, "all", sandbox)
    if score.metrics is None:
        raise TaskError(f"task {task.id}: its baseline gets no score: {score.message}", "run stage 04 again")
    return score.metrics
