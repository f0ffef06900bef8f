"""The dataset card of a run's tasks, in the Hub's format: every source with its revision, licence and citation."""

from collections.abc import Iterable

import yaml

from synthkit.gym.task import Task
from synthkit.gym.task.config import TaskMeta

TEXT = """{front}
# {title}

{count} machine-learning tasks in MLGym's format, each on a real dataset, with a description, a baseline, an evaluation
script and the data. Descriptions and scripts were written by {teacher} and verified by synthkit: every baseline runs,
every evaluation measures what it says, refuses broken submissions and separates a perfect answer from a shuffled one,
and a stronger model than the baseline was found. What each task comes from stands in its `synthkit.yaml`.

`data/<task>/data/answers.csv` holds the test labels. Whoever trains or evaluates an agent keeps them from it.

## Tasks

| task | kind | metric | baseline | reference | source |
|---|---|---|---|---|---|
{tasks}

## Sources and licences

The tables are parts of these datasets and stay under their licences; whoever uses a task names its source.

| dataset | revision | licence | tasks |
|---|---|---|---|
{sources}
{citations}"""


def build_card(tasks: list[Task], title: str, teacher: str) -> str:
    """README.md of a dataset repository: front matter, the tasks, their sources. `teacher` is who wrote the tasks."""
    sources: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        sources.setdefault((str(task.meta.dataset_id), str(task.meta.dataset_revision)), []).append(task)
    licences = sorted({str(task.meta.licence) for task in tasks})
    front = {
        "pretty_name": title, "license": licences[0] if len(licences) == 1 else "other",
        **({} if len(licences) == 1 else {"license_name": "per-source", "license_link": "README.md"}),
        "tags": ["synthkit", "mlgym", "machine-learning-agents", "synthetic-tasks"],
        "source_datasets": sorted({f"extended|{dataset}" for dataset, _ in sources}),
        "task_categories": sorted({f"tabular-{task.meta.task_kind}" for task in tasks}),
        "size_categories": [size_category(len(tasks))],
    }
    return TEXT.format(
        front=f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n", title=title, teacher=teacher,
        count=len(tasks), tasks="\n".join(describe_task(task) for task in tasks),
        sources="\n".join(describe_source(*key, users) for key, users in sorted(sources.items())),
        citations=list_citations(task.meta for task in tasks),
    )


def size_category(count: int) -> str:
    """The Hub's name for a size, here the number of tasks; from 10,000 on always the same one."""
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K")):
        if count < limit:
            return name
    return "10K<n<100K"


def describe_task(task: Task) -> str:
    """A task's row of the card, with the scores of baseline and reference on the private rows."""
    meta = task.meta
    values = (meta.baseline_private, meta.reference_score)
    scores = " | ".join("" if value is None else f"{value:.4g}" for value in values)
    return f"| {task.id} | {meta.task_kind} | {task.metric} | {scores} | {meta.dataset_id} |"


def describe_source(dataset: str, revision: str, users: list[Task]) -> str:
    """A dataset's row of the card; `users` are the tasks that were made of it at this revision."""
    return f"| {dataset} | `{revision[:12]}` | {users[0].meta.licence} | {len(users)} |"


def list_citations(metas: Iterable[TaskMeta]) -> str:
    """The card's last section: each citation once, in the order of the tasks; empty when there is none."""
    found = dict.fromkeys(meta.citation.strip() for meta in metas if meta.citation)
    return "\n## Citations\n\n" + "\n\n".join(f"```\n{text}\n```" for text in found) + "\n" if found else ""
