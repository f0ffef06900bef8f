"""The held-out benchmark: six small tasks in MLGym's format on datasets that no training task may use.

It shows whether a student can act on tasks that it has never seen. Its scores cannot be compared with the paper's or
MLGym's. Nothing in it is left to chance: rows are sampled and split with fixed seeds.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from synthkit.core.errors import TaskError
from synthkit.core.params import SandboxParams
from synthkit.gym.scoring import score_submission, scoring
from synthkit.gym.scoring.baseline import find_baseline
from synthkit.gym.scoring.evaluations import TEMPLATES, compose_evaluate
from synthkit.gym.task import Task, build_csv_task, config, task, write_task
from synthkit.gym.task.config import TaskMeta
from synthkit.offline.catalogue import Entry, read_catalogue
from synthkit.offline.data import export_once, hash_parts, load_table, open_data, read_index

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = Path(__file__).resolve().parent / "held_out"
MAX_ROWS = 900
TRAIN_SHARE = 2 / 3
TIME_LIMIT_S = 60
# The baselines are the kit's own code: they need no isolation, and the export works where there is none.
OWN_CODE = SandboxParams(backend="process")


class HeldOut(BaseModel):
    """One task as held_out/tasks.yaml describes it; its baseline lies beside it as <id>.py.

    `every`: one test row of so many is kept. A series needs that: when the step divides none of its lags, no test row
    shows the label of another one.
    """

    model_config = ConfigDict(extra="forbid")

    title: str
    dataset: str
    target: str
    task_kind: Literal["classification", "regression"]
    metric: Literal["balanced_accuracy", "f1_macro", "mae", "rmse"]
    split: Literal["random", "stratified", "time"]
    every: int = 1
    description: str

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Which scores of the metric are better."""
        return "minimize" if self.metric in ("mae", "rmse") else "maximize"


def export_benchmark(folder: Path) -> Path:
    """Write the benchmark as an MLGym root below `folder`, unless it is there; returns the root.

    The root's name changes with the tasks, the data and the code that writes and scores them, so no export is stale.
    Raises TaskError when a baseline gets no score, EndpointError when the folder cannot be written to.
    """
    data = open_data()
    code = [Path(__file__), *(Path(str(module.__file__)) for module in (config, scoring, task))]
    parts = [*code, *HELD_OUT.iterdir(), *TEMPLATES.iterdir()]
    name = f"{data.name.removeprefix('hub-')}-{hash_parts(path for path in parts if path.is_file())}"
    return export_once(folder / name, partial(export_tasks, data))


def export_tasks(data: Path, root: Path) -> None:
    """Write all tasks; `data` is the embedded Hub's folder, whose commits the tasks name as revisions."""
    index = read_index(data)
    for task_id, held_out in load_held_out().items():
        export_task(root, task_id, held_out, index[held_out.dataset]["sha"])


def load_held_out() -> dict[str, HeldOut]:
    """The benchmark's tasks by id."""
    entries = yaml.safe_load((HELD_OUT / "tasks.yaml").read_text(encoding="utf-8"))
    return {task_id: HeldOut(**values) for task_id, values in entries.items()}


def export_task(root: Path, task_id: str, held_out: HeldOut, revision: str) -> None:
    """Write one task, run its baseline, and write the task again with the scores that agents are measured against.

    Raises TaskError when the baseline gets no score.
    """
    source = read_catalogue()[held_out.dataset]
    meta = TaskMeta(
        metric=held_out.metric, direction=held_out.direction, task_kind=held_out.task_kind, target=held_out.target,
        perfect_score=0.0 if held_out.direction == "minimize" else 1.0, dataset_id=held_out.dataset,
        dataset_revision=revision, licence=source.licence or "unknown", citation=source.citation,
    )
    files: dict[str, str | Path] = {
        "baseline.py": HELD_OUT / f"{task_id}.py",
        "evaluate.py": compose_evaluate(held_out.task_kind, held_out.metric),
        **{f"data/{name}.csv": table.to_csv(index=False) for name, table in make_tables(held_out).items()},
    }
    save_task(root, task_id, held_out, source, meta, files)
    scores = measure_scores(Task.load(root, task_id))
    save_task(root, task_id, held_out, source, meta.model_copy(update=scores), {})


def save_task(root: Path, task_id: str, held_out: HeldOut, source: Entry, meta: TaskMeta,
              files: dict[str, str | Path]) -> None:
    """Write a task's configuration and `files`; files that are there already and not named stay."""
    columns = [f"{name}: {meaning}" for name, meaning in source.columns.items()]
    about = "; ".join([*columns, *([source.more_columns] if source.more_columns else [])])
    task_file, dataset = build_csv_task(task_id, held_out.title, held_out.description.strip(),
                                        f"{source.about} {about}.", time_limit_s=TIME_LIMIT_S, meta=meta)
    write_task(root, task_file, [dataset], meta, files)


def measure_scores(exported: Task) -> dict[str, float]:
    """The baseline's scores, public and private, by running it, and the sample submission's private one.

    Raises TaskError when one of them has no score.
    """
    public, private = find_baseline(exported, OWN_CODE)
    trivial = score_submission(exported, exported.all_files()["data/sample_submission.csv"], "private", OWN_CODE)
    metric = exported.metric or ""
    if metric not in public or metric not in private or trivial.metrics is None:
        raise TaskError(f"benchmark task {exported.id}: its baseline gets no score", "run its baseline.py by hand")
    return {"baseline_public": public[metric], "baseline_private": private[metric],
            "trivial_score": trivial.metrics[metric]}


def make_tables(held_out: HeldOut) -> dict[str, "pd.DataFrame"]:
    """A task's tables `train`, `test`, `answers` and `sample_submission`; the same rows each time.

    The test rows are numbered anew by `id`, which the last three share.
    """
    train, test = split_rows(load_table(held_out.dataset), held_out)
    test = test.reset_index(drop=True)
    test.insert(0, "id", range(len(test)))
    answers = test[["id", held_out.target]]
    sample = answers.assign(**{held_out.target: fill_sample(train[held_out.target], held_out)})
    return {"train": train, "test": test.drop(columns=held_out.target), "answers": answers, "sample_submission": sample}


def split_rows(frame: "pd.DataFrame", held_out: HeldOut) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Training and test rows, of at most MAX_ROWS together, two thirds to train.

    A series gives its last rows, cut in time and then thinned by `every`; any other table a fixed random sample.
    """
    if held_out.split == "time":
        frame = frame.tail(MAX_ROWS)
        cut = round(len(frame) * TRAIN_SHARE)
        return frame[:cut], frame[cut::held_out.every]
    from sklearn.model_selection import train_test_split

    frame = frame.sample(min(len(frame), MAX_ROWS), random_state=0)
    classes = frame[held_out.target] if held_out.split == "stratified" else None
    train, test = train_test_split(frame, train_size=TRAIN_SHARE, random_state=0, stratify=classes)
    return train, test


def fill_sample(known: "pd.Series", held_out: HeldOut) -> str | int | float:
    """The one answer that the sample submission gives to every row: the commonest class, or the mean."""
    return known.mode()[0] if held_out.task_kind == "classification" else round(float(known.mean()), 4)
