"""Tasks as a folder that is laid over an MLGym checkout and runs there as it is.

MLGym v0.1.1 does not implement `secret_files` and runs evaluate.py in the agent's shell, so an agent can read there the
labels that are secret here; the README that is written beside the tasks says so. MLGym scores on all test rows, and so
are the baseline scores that are written.
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
    """Write the overlay; returns the tasks' YAML files.

    Baselines run anew in a sandbox. Raises TaskError when the folder is not empty or a baseline gets no score, and
    SandboxError when no sandbox can be started.
    """
    require_empty(out)
    written = [write_overlay(task, out, sandbox) for task in tasks]
    (out / "README.md").write_text(README.format(count=len(tasks), first=tasks[0].id), encoding="utf-8")
    return written


def write_overlay(task: Task, out: Path, sandbox: SandboxParams) -> Path:
    """Write one task's data and configuration; returns its YAML file."""
    shutil.copytree(task.root / "data" / task.id, out / "data" / task.id)
    config = task.config.model_copy(update={"baseline_scores": [measure_whole(task, sandbox)]})
    path = out / "configs" / "tasks" / f"{task.id}.yaml"
    write_section(path, config)
    for name, dataset in zip(config.dataset_configs, task.datasets, strict=True):
        write_section(out / "configs" / name, dataset)
    return path


def measure_whole(task: Task, sandbox: SandboxParams) -> dict[str, float]:
    """The baseline's metrics on all test rows, by running it. Raises TaskError when it gets no score."""
    _, submission = run_baseline(task, sandbox)
    score = score_submission(task, submission, "all", sandbox)
    if score.metrics is None:
        raise TaskError(f"task {task.id}: its baseline gets no score: {score.message}", "run stage 04 again")
    return score.metrics
