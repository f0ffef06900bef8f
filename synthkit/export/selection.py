"""The verified tasks of a run, as every export takes them."""

from pathlib import Path

from synthkit.core.errors import TaskError
from synthkit.core.text import cut_end
from synthkit.gym.task import Task, list_tasks


def load_verified(run_dir: Path) -> list[Task]:
    """Every task that stage 04 of a run verified. Raises TaskError when there is none."""
    root = run_dir / "04_self_debug" / "tasks"
    tasks = [Task.load(root, task_id) for task_id in list_tasks(root)] if root.is_dir() else []
    if not tasks:
        raise TaskError(f"{run_dir} holds no verified tasks", "give a run's folder, such as outputs/offline, whose "
                        "stage 04 is finished")
    return tasks


def require_empty(out: Path) -> None:
    """Raises TaskError when a folder to write into holds anything; it need not exist."""
    if out.exists() and any(out.iterdir()):
        raise TaskError(f"{out} is not empty", "give a new folder, or one with nothing in it")


def shorten(text: str, limit: int) -> str:
    """Text as one line of at most `limit` characters."""
    return cut_end(" ".join(text.split()), limit)
