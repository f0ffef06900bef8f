"""One try at a task: its files in a folder of their own, and the submissions that its gates put to it."""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Sandbox, open_sandbox
from synthkit.gym.sandbox.folders import open_folder
from synthkit.gym.sandbox.workspace import place_files
from synthkit.gym.scoring.metrics import Metric, build_metrics
from synthkit.gym.task import Task
from synthkit.stages.common.forms import TaskCode
from synthkit.stages.common.images import hash_pictures
from synthkit.stages.common.seeds import derive_seed
from synthkit.stages.datasets.proposing import Proposal
from synthkit.stages.self_debug.leaks import Table

Solver = Callable[[int], str]


class Scores(BaseModel):
    """A task's scores: what giving no thought, the baseline, a stronger reference and a perfect answer get.

    All on the private rows, but `baseline_public`.
    """

    trivial: float
    baseline_public: float
    baseline_private: float
    reference: float
    perfect: float


class Ran(BaseModel):
    """How one run of evaluate.py ended, as repeat_runs.py tells it."""

    name: str
    exit_code: int | None
    timed_out: bool
    output: str


class Difficulty(BaseModel):
    """How hard it is to beat the baseline: share of the tries that do, and what the best one gains.

    The tries are those of the generic models, and the teacher's where these failed. `gain` is in shares of the way from
    the baseline to a perfect score; `model` names the best.
    """

    share: float
    gain: float
    model: str


@dataclass
class Trial:
    """What the gates of one attempt work on, and what they find out on the way.

    `values` holds evaluate.py's scores of `submissions` on all test rows, by the same names; `ran` how its runs on
    the bench ended. What is open when the trial ends, `closing` closes. `solve` asks the teacher for its nth solution;
    `solution` is the last one.
    """

    proposal: Proposal
    code: TaskCode
    data: Path
    folder: Path
    time_limit_s: int
    margin: float
    leak: float
    seed: int
    sandbox: SandboxParams
    closing: ExitStack
    solve: Solver | None = None
    solve_tries: int = 0
    task: Task | None = None
    submissions: dict[str, bytes] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    ran: dict[str, Ran] = field(default_factory=dict)
    reference: bytes = b""
    solution: str = ""
    difficulty: Difficulty | None = None
    scores: Scores | None = None

    @property
    def bench(self) -> Path:
        """Where evaluate.py is tried, with the answers beside it."""
        return self.folder / "bench"

    @cached_property
    def session(self) -> Sandbox:
        """The sandbox on the bench: one for all that is tried there."""
        return self.closing.enter_context(open_sandbox(self.bench, self.sandbox))

    @cached_property
    def answers(self) -> pd.DataFrame:
        return pd.read_csv(self.data / "answers.csv")

    @cached_property
    def corrupt(self) -> dict[str, bytes]:
        return make_corrupt(self)

    @property
    def standard(self) -> Metric:
        """scikit-learn's metric: the task's own, or the nearest one to a custom metric."""
        return build_metrics()[self.proposal.standard_metric]

    @property
    def perfect(self) -> float:
        """What a perfect answer scores."""
        own = self.proposal.custom_metric
        return own.perfect if own else self.standard.perfect

    def loaded_task(self) -> Task:
        assert self.task is not None, "the schema gate comes first"
        return self.task


@contextmanager
def open_trial(proposal: Proposal, code: TaskCode, data: Path, *, time_limit_s: int, margin: float, leak: float,
               seed: int, sandbox: SandboxParams, solve: Solver | None = None,
               solve_tries: int = 0) -> Iterator[Trial]:
    """A trial in a temporary folder, which goes when it ends."""
    with open_folder() as folder, ExitStack() as closing:
        yield Trial(proposal, code, data, Path(folder), time_limit_s, margin, leak,
                    derive_seed(seed, "trial", proposal.task_id), sandbox, closing, solve, solve_tries)


def lay_out_bench(trial: Trial) -> None:
    """evaluate.py, the data with the answers, and every submission that the evaluation is tried on."""
    trial.submissions["trivial"] = (trial.data / "sample_submission.csv").read_bytes()
    trial.submissions |= make_sound(trial)
    files = {f"submissions/{name}.csv": content for name, content in (trial.submissions | trial.corrupt).items()}
    place_files({**trial.loaded_task().all_files(), **files}, trial.bench)


def make_sound(trial: Trial) -> dict[str, bytes]:
    """The perfect answer, and the same labels given to the wrong rows."""
    answers = trial.answers
    order = np.random.default_rng(trial.seed).permutation(len(answers))
    shuffled = answers[trial.proposal.target].to_numpy()[order]
    return to_csv({"perfect": answers, "shuffled": answers.assign(**{trial.proposal.target: shuffled})})


def make_corrupt(trial: Trial) -> dict[str, bytes]:
    """Perfect answers, each with one thing wrong; an evaluation has to refuse them all."""
    answers, target = trial.answers, trial.proposal.target
    gap = answers[target].astype(object).where(answers.index > 0, None)
    tables = {
        "wrong_columns": answers.rename(columns={target: "prediction"}),
        "missing_rows": answers.iloc[len(answers) // 2:],
        "repeated_ids": answers.assign(id=[*answers["id"][:-1], answers["id"].iloc[0]]),
        "missing_values": answers.assign(**{target: gap}),
        "no_rows": answers.iloc[:0],
    }
    if trial.proposal.task_kind == "regression":
        text = answers[target].astype(object).where(answers.index > 0, "many")
        tables["text_for_numbers"] = answers.assign(**{target: text})
    return to_csv(tables)


def to_csv(tables: dict[str, pd.DataFrame]) -> dict[str, bytes]:
    return {name: table.to_csv(index=False, lineterminator="\n").encode() for name, table in tables.items()}


def read_table(trial: Trial) -> Table:
    """The task's rows as a leak is looked for in them."""
    train, test, sample = (pd.read_csv(trial.data / f"{name}.csv") for name in ("train", "test", "sample_submission"))
    target = trial.proposal.target
    train, test = hash_pictures(train, trial.data), hash_pictures(test, trial.data)
    return Table(train.drop(columns=target), train[target], test.drop(columns="id"), trial.answers[target],
                 trial.proposal.task_kind, sample[target].iloc[0])


def own_score(trial: Trial, submission: bytes) -> float:
    """scikit-learn's value of a standard metric for a submission, on all test rows; NaN when there is none."""
    if trial.proposal.custom_metric:
        return math.nan
    answers = trial.answers.set_index("id")[trial.proposal.target]
    guess = pd.read_csv(io.BytesIO(submission)).set_index("id")[trial.proposal.target].reindex(answers.index)
    if trial.proposal.task_kind == "classification" and not pd.api.types.is_numeric_dtype(answers):
        answers, guess = answers.astype(str), guess.astype(str)
    try:
        return float(trial.standard.compute(answers.to_numpy(), guess.to_numpy()))
    except (ValueError, TypeError):
        return math.nan
