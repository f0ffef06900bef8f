"""evaluate.py for the standard metrics: the kit's own script around scikit-learn's function."""

from functools import cache
from pathlib import Path
from string import Template

import yaml

TEMPLATES = Path(__file__).resolve().parent / "templates"


@cache
def read_metrics() -> dict[str, dict[str, str]]:
    """By metric: scikit-learn's function, the call of it, and a sentence for a task's description."""
    metrics: dict[str, dict[str, str]] = yaml.safe_load((TEMPLATES / "metrics.yaml").read_text(encoding="utf-8"))
    return metrics


@cache
def compose_evaluate(task_kind: str, metric: str) -> str:
    """The script for a task in the kit's own layout (`build_csv_task`). Raises KeyError for a metric without one."""
    template = Template((TEMPLATES / f"{task_kind}.py.txt").read_text(encoding="utf-8"))
    known = read_metrics()[metric]
    return template.substitute(metric=metric, function=known["function"], score=known["score"])
