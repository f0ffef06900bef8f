"""The held-out benchmark: six small tasks in MLGym's format on datasets that no training task holds.

It shows that a student acts on tasks it has never seen. Its scores are not the paper's, nor MLGym's.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from synthkit.core.params import SandboxParams
from synthkit.gym.config import TaskMeta
from synthkit.gym.environment import find_baseline
from synthkit.gym.task import Task, build_csv_task, write_task
from synthkit.offline.data import open_data, publish
from synthkit.offline.library import compose_evaluate

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
HELD_OUT = Path(__file__).resolve().parent / "held_out"
MAX_ROWS = 900
TRAIN_SHARE = 2 / 3
TIME_LIMIT_S = 60
MINIMIZED = ("mae", "rmse")


class HeldOut(BaseModel):
    """One task as held_out/tasks.yaml describes it; its baseline lies beside it as <id>.py."""

    model_config = ConfigDict(extra="forbid")

    title: str
    dataset: str
    target: str
    task_kind: Literal["classification", "regression"]
    metric: str
    split: Literal["random", "time"] = "random"
    description: str

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        return "minimize" if self.metric in MINIMIZED else "maximize"


def export_benchmark(folder: Path) -> Path:
    """Write the benchmark as an MLGym root below `folder`, unless it is there; returns the root."""
    root = folder / f"v{VERSION}"
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".export-"))
        for task_id, entry in load_held_out().items():
            export_task(temporary, task_id, entry)
        publish(temporary, root)
    return root


def load_held_out() -> dict[str, HeldOut]:
    entries = yaml.safe_load((HELD_OUT / "tasks.yaml").read_text(encoding="utf-8"))
    return {task_id: HeldOut(**values) for task_id, values in entries.items()}


def export_task(root: Path, task_id: str, entry: HeldOut) -> None:
    """Write one task, then run its baseline for the scores that agents are measured against."""
    folder = root / "data" / task_id
    write_tables(folder / "data", entry)
    source = next(row for row in read_index() if row["id"] == entry.dataset)
    meta = TaskMeta(
        metric=entry.metric, direction=entry.direction, task_kind=entry.task_kind, target=entry.target,
        dataset_id=entry.dataset, dataset_revision=source["sha"], licence=source["license"],
    )
    files = {
        "baseline.py": HELD_OUT / f"{task_id}.py",
        "evaluate.py": compose_evaluate(entry.task_kind, entry.metric),
    }
    save(root, task_id, entry, meta, files)
    public, private = find_baseline(Task.load(root, task_id), SandboxParams(backend="process"))
    scored = {"baseline_public": public[entry.metric], "baseline_private": private[entry.metric]}
    save(root, task_id, entry, meta.model_copy(update=scored), {})


def save(root: Path, task_id: str, entry: HeldOut, meta: TaskMeta, files: dict[str, str | Path]) -> None:
    about = f"The table comes from {entry.dataset}."
    config, dataset = build_csv_task(
        task_id, entry.title, entry.description.strip(), about, time_limit_s=TIME_LIMIT_S, meta=meta
    )
    write_task(root, config, [dataset], meta, files)


def read_index() -> list[dict]:
    import json

    return json.loads((open_data() / "index.json").read_text())


def write_tables(folder: Path, entry: HeldOut) -> None:
    """train, test, sample submission and answers; a seeded shuffle, or the last third in time order."""
    import pandas as pd

    frame = pd.read_parquet(open_data() / entry.dataset / "data" / "train-00000-of-00001.parquet")
    if entry.split == "random":
        frame = frame.sample(frac=1, random_state=0)
    frame = frame.head(MAX_ROWS).reset_index(drop=True)
    frame.insert(0, "id", range(len(frame)))
    cut = round(len(frame) * TRAIN_SHARE)
    train, test = frame[:cut], frame[cut:]
    answers = test[["id", entry.target]]
    folder.mkdir(parents=True)
    train.to_csv(folder / "train.csv", index=False)
    test.drop(columns=entry.target).to_csv(folder / "test.csv", index=False)
    answers.to_csv(folder / "answers.csv", index=False)
    fill_sample(answers, train[entry.target], entry).to_csv(folder / "sample_submission.csv", index=False)


def fill_sample(answers: "pd.DataFrame", known: "pd.Series", entry: HeldOut) -> "pd.DataFrame":
    """A valid submission that knows nothing: the commonest class, or the mean."""
    filler = known.mode()[0] if entry.task_kind == "classification" else round(float(known.mean()), 4)
    return answers.assign(**{entry.target: filler})


