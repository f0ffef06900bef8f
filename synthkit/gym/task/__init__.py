"""A task in MLGym's files: its YAML and the kit's own synthkit.yaml, read, checked and written."""

from synthkit.gym.task.task import ANSWERS, SAMPLE, SOLUTION, TEST, Task, build_csv_task, list_tasks, write_task

__all__ = ["ANSWERS", "SAMPLE", "SOLUTION", "TEST", "Task", "build_csv_task", "list_tasks", "write_task"]
