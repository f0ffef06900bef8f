"""Keeps the evaluation benchmark out of the training tasks: by dataset id, by name, and by rows that both hold."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from synthkit.core.endpoints import embedded_benchmark
from synthkit.core.errors import HubError, StageError, TaskError
from synthkit.core.paths import find_root
from synthkit.gym.task import Task, list_tasks

MIN_COLUMNS = 3  # Fewer equal columns make equal rows by chance.
COLUMN_SHARE = 0.6  # Of a benchmark table's columns, so many must be in the other table to compare their rows.
ROW_SHARE = 0.05


@dataclass
class Benchmark:
    """What of the benchmark must not be trained on; both parts by the name of the task they come from."""

    ids: dict[str, str] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def check_id(self, dataset_id: str) -> None:
        """Raises HubError with reason `benchmark` when a benchmark task is made of this dataset, or of one that another
        owner has under the same name: a mirror, as a rule."""
        for known, task_id in self.ids.items():
            if dataset_id.lower() == known:
                raise HubError("benchmark", f"{dataset_id} is the dataset of benchmark task {task_id}")
            if simplify_name(dataset_id) == simplify_name(known):
                raise HubError("benchmark", f"{dataset_id} has the name of {known}, the dataset of benchmark task "
                               f"{task_id}, and counts as its mirror")

    def check_rows(self, frame: pd.DataFrame) -> None:
        """Raises HubError with reason `benchmark` when rows of this table stand in a benchmark task, under any name."""
        for task_id, table in self.tables.items():
            share = measure_overlap(frame, table)
            if share >= ROW_SHARE:
                raise HubError("benchmark", f"{share:.0%} of the rows of benchmark task {task_id} are in this dataset")


def simplify_name(dataset_id: str) -> str:
    """The name without its owner, in letters and digits only: CIFAR-10 is cifar10."""
    return re.sub(r"[^a-z0-9]", "", dataset_id.lower().rpartition("/")[2])


def load_benchmark(where: str) -> Benchmark:
    """The benchmark in a folder of MLGym tasks, the embedded one, or none ('none').

    A task whose files are not at hand is passed over.
    """
    benchmark = Benchmark()
    if where == "none":
        return benchmark
    root = embedded_benchmark() if where == "embedded" else find_root() / where
    if not (root / "configs" / "tasks").is_dir():
        raise StageError(f"02_datasets: {root} holds no MLGym tasks",
                         "set datasets.benchmark to the root of an MLGym checkout, 'embedded' or 'none'")
    for task_id in list_tasks(root):
        add_task(benchmark, root, task_id)
    return benchmark


def add_task(benchmark: Benchmark, root: Path, task_id: str) -> None:
    try:
        task = Task.load(root, task_id)
    except TaskError:
        return
    names = [task.meta.dataset_id, *(dataset.data_path for dataset in task.datasets if not dataset.is_local)]
    benchmark.ids |= {name.lower(): task_id for name in names if name}
    table = read_table(task)
    if table is not None:
        benchmark.tables[task_id] = table


def read_table(task: Task) -> pd.DataFrame | None:
    """Train and test rows of a task with its features; None when it has no tables in the usual places."""
    files = task.all_files()
    paths = [files[name] for name in ("data/train.csv", "data/test.csv") if name in files]
    if not paths:
        return None
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True).drop(
        columns=["id", task.meta.target], errors="ignore")


def measure_overlap(frame: pd.DataFrame, table: pd.DataFrame) -> float:
    """The share of `table`'s distinct rows that are in `frame`, compared in the columns that both have."""
    left = {str(name).strip().lower(): name for name in frame.columns}
    right = {str(name).strip().lower(): name for name in table.columns}
    common = sorted(set(left) & set(right))
    if len(common) < max(MIN_COLUMNS, COLUMN_SHARE * len(right)):
        return 0.0
    wanted = hash_rows(table[[right[name] for name in common]])
    return len(wanted & hash_rows(frame[[left[name] for name in common]])) / len(wanted)


def hash_rows(frame: pd.DataFrame) -> set[int]:
    """One hash for each distinct row; numbers count as equal to six digits, texts whatever their case."""
    plain = pd.DataFrame({at: normalise_column(frame.iloc[:, at]) for at in range(frame.shape[1])})
    return set(pd.util.hash_pandas_object(plain, index=False))


def normalise_column(values: pd.Series) -> list[str]:
    if is_numeric_dtype(values) and not is_bool_dtype(values):
        return [f"{number:.6g}" for number in values.astype(float)]
    return [str(value).strip().lower() for value in values]
