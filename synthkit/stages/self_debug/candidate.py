"""A candidate: one version of a task under test, in a folder of its own, with the submissions that gates put to it."""

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
from synthkit.records import MeasuredDifficulty, Proposal, Scores, TaskCode
from synthkit.stages.common.images import hash_pictures
from synthkit.stages.common.seeds import derive_seed
from synthkit.stages.self_debug.leaks import Table

Solver = Callable[[int], str]


class EvaluationOutcome(BaseModel):
    """How one run of evaluate.py ended, as run_evaluations.py tells it."""

    name: str
    exit_code: int | None
    timed_out: bool
    output: str


@dataclass
class Candidate:
    """What the gates of one attempt work on, and what they find out on the way.

    `values` holds evaluate.py's scores of `submissions` on all test rows, by the same names; `outcomes` how its runs
    ended. `closing` closes what is open when the work on it ends. `solve` asks the teacher for its nth solution;
    `solution` is the last one that it gave. `margin`, `leak` and `time_limit_s` are the parameters of these names.
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
    solver_attempts: int = 0
    task: Task | None = None
    submissions: dict[str, bytes] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    outcomes: dict[str, EvaluationOutcome] = field(default_factory=dict)
    reference: bytes = b""
    solution: str = ""
    difficulty: MeasuredDifficulty | None = None
    scores: Scores | None = None

    @property
    def evaluation_folder(self) -> Path:
        """Where evaluate.py runs, with the answers beside it."""
        return self.folder / "evaluation"

    @cached_property
    def session(self) -> Sandbox:
        """The sandbox in that folder: one for all that runs there."""
        return self.closing.enter_context(open_sandbox(self.evaluation_folder, self.sandbox))

    @cached_property
    def answers(self) -> pd.DataFrame:
        """The test rows' ids and labels."""
        return pd.read_csv(self.data / "answers.csv")

    @cached_property
    def corrupt(self) -> dict[str, bytes]:
        """The corrupt submissions by name, see `make_corrupt`."""
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
        """The task as the gym loads it, once the schema gate has passed."""
        assert self.task is not None, "the schema gate comes first"
        return self.task


@contextmanager
def open_candidate(proposal: Proposal, code: TaskCode, data: Path, *, time_limit_s: int, margin: float, leak: float,
               seed: int, sandbox: SandboxParams, solve: Solver | None = None,
               solver_attempts: int = 0) -> Iterator[Candidate]:
    """A candidate in a temporary folder, deleted with the block. The parameters are the fields of Candidate."""
    with open_folder() as folder, ExitStack() as closing:
        yield Candidate(proposal, code, data, Path(folder), time_limit_s, margin, leak,
                    derive_seed(seed, "candidate", proposal.task_id), sandbox, closing, solve, solver_attempts)


def lay_out_evaluation(candidate: Candidate) -> None:
    """Place evaluate.py, the data with the answers, and every submission that the evaluation is tried on."""
    candidate.submissions["trivial"] = (candidate.data / "sample_submission.csv").read_bytes()
    candidate.submissions |= make_sound(candidate)
    submissions = candidate.submissions | candidate.corrupt
    files = {f"submissions/{name}.csv": content for name, content in submissions.items()}
    place_files({**candidate.loaded_task().all_files(), **files}, candidate.evaluation_folder)


def make_sound(candidate: Candidate) -> dict[str, bytes]:
    """The perfect answer, and the same labels given to the wrong rows."""
    answers = candidate.answers
    order = np.random.default_rng(candidate.seed).permutation(len(answers))
    shuffled = answers[candidate.proposal.target].to_numpy()[order]
    return to_csv({"perfect": answers, "shuffled": answers.assign(**{candidate.proposal.target: shuffled})})


def make_corrupt(candidate: Candidate) -> dict[str, bytes]:
    """Perfect answers, each with one thing wrong; an evaluation has to refuse them all."""
    answers, target = candidate.answers, candidate.proposal.target
    gap = answers[target].astype(object).where(answers.index > 0, None)
    tables = {
        "wrong_columns": answers.rename(columns={target: "prediction"}),
        "missing_rows": answers.iloc[len(answers) // 2:],
        "repeated_ids": answers.assign(id=[*answers["id"][:-1], answers["id"].iloc[0]]),
        "missing_values": answers.assign(**{target: gap}),
        "no_rows": answers.iloc[:0],
    }
    if candidate.proposal.task_kind == "regression":
        text = answers[target].astype(object).where(answers.index > 0, "many")
        tables["text_for_numbers"] = answers.assign(**{target: text})
    return to_csv(tables)


def to_csv(tables: dict[str, pd.DataFrame]) -> dict[str, bytes]:
    """Tables as the bytes of CSV files."""
    return {name: table.to_csv(index=False, lineterminator="\n").encode() for name, table in tables.items()}


def read_table(candidate: Candidate) -> Table:
    """The task's rows in the form that `find_leak` takes."""
    names = ("train", "test", "sample_submission")
    train, test, sample = (pd.read_csv(candidate.data / f"{name}.csv") for name in names)
    target = candidate.proposal.target
    train, test = hash_pictures(train, candidate.data), hash_pictures(test, candidate.data)
    return Table(train.drop(columns=target), train[target], test.drop(columns="id"), candidate.answers[target],
                 candidate.proposal.task_kind, sample[target].iloc[0])


def own_score(candidate: Candidate, submission: bytes) -> float:
    """scikit-learn's value of a standard metric for a submission, on all test rows; NaN when there is none."""
    if candidate.proposal.custom_metric:
        return math.nan
    answers = candidate.answers.set_index("id")[candidate.proposal.target]
    guess = pd.read_csv(io.BytesIO(submission)).set_index("id")[candidate.proposal.target].reindex(answers.index)
    if candidate.proposal.task_kind == "classification" and not pd.api.types.is_numeric_dtype(answers):
        answers, guess = answers.astype(str), guess.astype(str)
    try:
        return float(candidate.standard.compute(answers.to_numpy(), guess.to_numpy()))
    except (ValueError, TypeError):
        return math.nan
