"""A task on disk, in MLGym's format: read and written, and checked where MLGym is silent.

A root holds `configs/tasks/<id>.yaml`, `configs/datasets/<id>.yaml` and `data/<id>/`; every path in them is relative
to the root. Beside the task's files lies the kit's own `synthkit.yaml` (`TaskMeta`). A task of an MLGym checkout has
none: its whole test set is scored, unknown keys are left out with a warning (MLGym gives none), and metric and
direction come from `published.py` or its baseline.
"""

import difflib
import hashlib
import logging
import shutil
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from synthkit.core.errors import TaskError
from synthkit.gym.task.config import DatasetConfig, TaskConfig, TaskMeta, read_section, write_section
from synthkit.gym.task.published import PUBLISHED, Direction

log = logging.getLogger(__name__)
TEST = "data/test.csv"
SAMPLE = "data/sample_submission.csv"
ANSWERS = "data/answers.csv"
SOLUTION = "solution.py"  # A solution that is known lies beside a task's files and is never shown.
TABLES = ("data/train.csv", TEST, SAMPLE, ANSWERS)
PICTURES = "data/images/"


@dataclass
class Task:
    """A task that was read and checked. `description` is what the agent reads, dataset descriptions filled in.

    `secret_files` never enter the agent's workspace; `fixed_files` it may read, and a score is made with them as they
    were. Both are workspace paths, folders, or ends of paths ("answers.csv" is any file of that name).
    """

    id: str
    name: str
    description: str
    root: Path
    config: TaskConfig
    datasets: list[DatasetConfig]
    meta: TaskMeta = field(default_factory=lambda: TaskMeta(score_on="all"))
    secret_files: tuple[str, ...] = ()
    fixed_files: tuple[str, ...] = ()

    @classmethod
    def load(cls, root: Path, name: str, *, secret_files: Sequence[str] = (),
             fixed_files: Sequence[str] = ()) -> "Task":
        """Read a task of a root by its id or by its file's path below configs/, such as `tasks/wine.yaml`.

        The last two name what is secret or fixed beyond what the task's own file says. Raises TaskError naming file
        and fault.
        """
        root = root.resolve()
        path = find_config(root, name)
        lenient = not (root / "data" / path.stem / "synthkit.yaml").is_file()
        config = normalise_paths(read_section(path, TaskConfig, lenient=lenient))
        datasets = [read_section(root / "configs" / name, DatasetConfig, lenient=lenient)
                    for name in config.dataset_configs]
        meta_path = root / "data" / config.id / "synthkit.yaml"
        meta = read_section(meta_path, TaskMeta) if meta_path.is_file() else TaskMeta(score_on="all")
        known = PUBLISHED.get(config.id) if lenient else None
        task = cls(config.id, config.name, fill_description(config, datasets), root, config, datasets, meta,
                   (*config.secret_files, *(known.secret if known else ()), *secret_files),
                   (*config.evaluation_paths, *(known.fixed if known else ()), *fixed_files))
        task.check_files()
        return task

    @property
    def metric(self) -> str | None:
        """The score that counts: its own, MLGym's for a known id, or the first of its baseline scores; or None."""
        known = PUBLISHED.get(self.id)
        metric = self.meta.metric or (known.metric if known else None)
        return metric or next((name for scores in self.config.baseline_scores for name in scores), None)

    @property
    def direction(self) -> Direction:
        """Whether more or less of the metric is better; 'maximize' where nothing says."""
        known = PUBLISHED.get(self.id)
        return self.meta.direction or (known.direction if known else "maximize")

    def all_files(self) -> dict[str, Path]:
        """Every file of the task, by its path in a workspace, as MLGym lays them out; secret ones included."""
        found: dict[str, Path] = {}
        for entry in self.config.starter_code:
            found |= place(resolve_inside(self.root, entry), PurePosixPath(PurePosixPath(entry).name))
        for number, dataset in enumerate(d for d in self.datasets if d.is_local):
            source = resolve_inside(self.root, dataset.data_path)
            # MLGym copies the first dataset to `data`, and a later one into that folder.
            found |= place(source, PurePosixPath("data", *([source.name] if number else [])))
        return found

    def public_files(self) -> dict[str, Path]:
        """What the agent may see: `all_files` less the secret ones."""
        return {path: source for path, source in self.all_files().items() if not self.is_secret(path)}

    def is_secret(self, workspace_path: str) -> bool:
        """Whether a workspace path is kept from the agent."""
        return names_path(self.secret_files, workspace_path)

    def is_fixed(self, workspace_path: str) -> bool:
        """Whether a score is made with the task's own file whatever the agent did: evaluation, labels, datasets."""
        own = any(dataset.is_local for dataset in self.datasets) and f"{workspace_path}/".startswith("data/")
        return own or names_path((*self.fixed_files, *self.secret_files), workspace_path)

    def check_files(self) -> None:
        """Raises TaskError when a file that the task needs is missing, lies outside of the root, or is not secret."""
        have = self.all_files()
        if missing := [name for name in self.config.evaluation_paths[:1] if name not in have]:
            raise TaskError(f"task {self.id}: evaluation_paths names {missing[0]!r}, which is not in its workspace",
                            "list it in starter_code, or put it into the dataset's folder")
        if self.meta.score_on == "all":
            return
        named = [(kind, name) for kind in ("baseline_paths", "evaluation_paths", "secret_files")
                 for name in getattr(self.config, kind)] + [("the kit's layout", name) for name in TABLES]
        for kind, name in named:
            if name not in have:
                raise TaskError(f"task {self.id}: {kind} names {name!r}, which is not in its workspace",
                                "list it in starter_code, or put it into the dataset's folder")
        if not self.is_secret(ANSWERS):
            raise TaskError(f"task {self.id}: {ANSWERS} is not secret", f"add {ANSWERS} to secret_files")
        if not (self.meta.metric and self.meta.direction and self.meta.target):
            raise TaskError(f"task {self.id}: synthkit.yaml lacks metric, direction or target",
                            "fill them in, or set score_on: all")


def normalise_paths(config: TaskConfig) -> TaskConfig:
    """The config with one spelling of each path: `./evaluate.py` is evaluate.py.

    Warns of a task that asks for packages of its own: MLGym would install them, the kit does not.
    """
    named = ("evaluation_paths", "baseline_paths", "secret_files")
    paths = {name: [str(PurePosixPath(path)) for path in getattr(config, name)] for name in named}
    if not config.use_generic_conda:
        log.warning("task %s asks for packages of its own (%s): they are not installed, the sandbox has what the kit "
                    "has, or the image that is named", config.id, config.requirements_path)
    return config.model_copy(update=paths)


def names_path(names: Sequence[str], workspace_path: str) -> bool:
    """Whether one of the names is a workspace path, a folder above it, or an end of it."""
    path = PurePosixPath(workspace_path)
    return any(path.is_relative_to(name) or path.match(name) for name in names)


def find_config(root: Path, name: str) -> Path:
    """The YAML file of a task, by id or by its path below configs/ or below the root."""
    candidates = [root / "configs" / "tasks" / f"{name}.yaml", root / "configs" / name, root / name]
    for path in candidates if name.endswith(".yaml") else candidates[:1]:
        if path.is_file() and path.resolve().is_relative_to(root):
            return path
    close = difflib.get_close_matches(PurePosixPath(name).stem, list_tasks(root), n=1)
    raise TaskError(f"there is no task {name!r} in {root}", f"did you mean {close[0]!r}?" if close else "")


def list_tasks(root: Path) -> list[str]:
    """The ids that `Task.load` takes in a root, sorted."""
    return sorted(path.stem for path in (root / "configs" / "tasks").glob("*.yaml"))


def fill_description(config: TaskConfig, datasets: list[DatasetConfig]) -> str:
    """The description with `{dataset_docs}` filled in. Raises TaskError at any other brace that is not doubled."""
    docs = "".join(f"{d.name.upper()}:\n{d.description}\n\n" for d in datasets)
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(config.description) if name is not None}
        if names <= {"dataset_docs"}:
            return config.description.format(dataset_docs=docs).strip()
        fault = f"an unescaped brace: {{{min(names - {'dataset_docs'})}}}"
    except (ValueError, LookupError) as error:
        fault = str(error)
    raise TaskError(f"task {config.id}: description: {fault}", "write literal braces twice: {{ }}")


def resolve_inside(root: Path, name: str) -> Path:
    """A path relative to a task's root, resolved. Raises TaskError when it leads out, or nothing is there."""
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise TaskError(f"{name!r} leads out of the task's root")
    if not path.exists():
        raise TaskError(f"{path} is missing", "paths in a task are relative to its root")
    return path


def place(source: Path, at: PurePosixPath) -> dict[str, Path]:
    """One file, or a folder's files, by their workspace paths; sorted, caches left out."""
    if source.is_file():
        return {str(at): source}
    files = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(at.joinpath(*path.relative_to(source).parts)): path for path in files}


def build_csv_task(task_id: str, name: str, description: str, dataset_description: str, *, time_limit_s: int,
                   meta: TaskMeta) -> tuple[TaskConfig, DatasetConfig]:
    """The two MLGym files of a task in the kit's own layout: a table, a baseline, a CSV submission, secret answers.

    `description` follows MLGym's rule for braces; without `{dataset_docs}` in it the dataset's text goes behind it.
    """
    text = description if "{dataset_docs}" in description else f"{description.rstrip()}\n\n{{dataset_docs}}"
    scores = {} if meta.baseline_private is None or meta.metric is None else {meta.metric: meta.baseline_private}
    config = TaskConfig(
        id=task_id, name=name, description=text, dataset_configs=[f"datasets/{task_id}.yaml"],
        training_timeout=time_limit_s, starter_code=[f"data/{task_id}/baseline.py", f"data/{task_id}/evaluate.py"],
        baseline_paths=["baseline.py"], baseline_scores=[scores] if scores else [],
        sample_submission=f"data/{task_id}/data/sample_submission.csv", evaluation_paths=["evaluate.py"],
        evaluation_read_only=True, secret_files=[ANSWERS],
    )
    return config, DatasetConfig(name=name, description=dataset_description, data_path=f"data/{task_id}/data",
                                 is_local=True)


def write_task(root: Path, config: TaskConfig, datasets: list[DatasetConfig], meta: TaskMeta,
               files: Mapping[str, str | Path]) -> None:
    """Write a task into a root, replacing one of the same id; `files` (text, or a file to copy) go to data/<id>/.

    With no `files` those that lie there stay. One dataset file per entry of `config.dataset_configs`, in order.
    """
    folder = root / "data" / config.id
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_text(content, encoding="utf-8")
    write_section(root / "configs" / "tasks" / f"{config.id}.yaml", config)
    for name, dataset in zip(config.dataset_configs, datasets, strict=True):
        write_section(root / "configs" / name, dataset)
    write_section(folder / "synthkit.yaml", meta.model_copy(update={"hashes": hash_files(folder)}))


def hash_files(folder: Path) -> dict[str, str]:
    """sha256 by path of a task's files, `synthkit.yaml` left out; one for all files of a folder of pictures."""
    files = place(folder, PurePosixPath())
    found: dict[str, str] = {}
    pictures: dict[str, hashlib._Hash] = {}
    for name, path in files.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if name.startswith(PICTURES):
            of = f"{PurePosixPath(name).parent}/"
            pictures.setdefault(of, hashlib.sha256()).update(f"{name} {digest}\n".encode())
        elif name != "synthkit.yaml":
            found[name] = digest
    return found | {of: digest.hexdigest() for of, digest in pictures.items()}
