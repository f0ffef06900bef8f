"""The scripted teacher's library on the real data: which topics become tasks, and their folders."""

import shutil
from functools import cache
from pathlib import Path

import pandas as pd

from synthkit.core.hub import DatasetInfo
from synthkit.core.params import DatasetsParams, SandboxParams, SelfDebugParams
from synthkit.gym.scoring.metrics import direction_of
from synthkit.gym.task.config import Origin
from synthkit.offline.data import load_table
from synthkit.offline.library import Entry, load_library
from synthkit.records import Proposal
from synthkit.stages.datasets.forms import TaskPlan
from synthkit.stages.datasets.splits import split_frame
from synthkit.stages.datasets.table import apply_plan, check_plan, clean_frame
from synthkit.stages.datasets.task_data import write_files

REFUSALS = {  # What stage 02 has to say of each topic that never becomes a task.
    "missed-appointments": "gated", "hotel-ratings": "not_found", "pupils-above-median": "licence",
    "traffic-counts": "needs_code", "state-crime": "too_small", "tumour-diagnosis": "benchmark",
}
NEAR = {"digits-middle-columns": "scikit-learn/digits"}  # Named wrongly, found by its search words.
GOOD = sorted(set(load_library()) - set(REFUSALS))
LEAKING = [slug for slug in GOOD if load_library()[slug].leak]
# Topics that the library holds although they are no tasks: their flaw has no evidence that would mend it.
HOPELESS = {slug for slug in GOOD if any(not flaw.evidence for flaw in load_library()[slug].flaws)}
SOUND = [slug for slug in GOOD if slug not in HOPELESS.union(LEAKING)]
SANDBOX = SandboxParams(backend="bwrap" if shutil.which("bwrap") else "process")
PARAMS = SelfDebugParams()


@cache
def read_frame(dataset_id: str) -> pd.DataFrame:
    """A dataset of the embedded Hub as stage 02 cleans it."""
    return clean_frame(load_table(dataset_id))


def lay_out(entry: Entry, files: dict[str, str], folder: Path, seed: int = 0) -> None:
    """A task's folder with its answers, split as stage 02 does it."""
    plan, params = TaskPlan.model_validate(entry.plan.model_dump()), DatasetsParams()
    frame = apply_plan(read_frame(NEAR.get(entry.slug, entry.dataset.dataset_id)), plan)
    check_plan(frame, plan, params)
    write_files(folder / "data", *split_frame(frame, plan, params, seed), plan.task_kind)
    (folder / "baseline.py").write_text(files["baseline_py"])
    (folder / "evaluate.py").write_text(files["evaluate_py"])


def build_proposal(entry: Entry, n_train: int, n_test: int) -> Proposal:
    """A topic's proposal as stage 02 writes it, with a stand-in for the dataset and no columns."""
    plan = entry.plan
    info = DatasetInfo(id=entry.dataset.dataset_id, revision="0" * 40, licence="mit", card="", files=[], splits={},
                       size_bytes=0)
    return Proposal(
        task_id=entry.slug, topic_id=f"t001-{entry.slug}", topic_title=entry.title, title=plan.title, area=entry.area,
        difficulty=entry.difficulty, description=plan.description, dataset=info, named=info.id, near_match=False,
        target=plan.target, features=plan.features, task_kind=plan.task_kind, metric=plan.metric,
        standard_metric=plan.metric,
        direction=direction_of(plan.metric), split=plan.split, group_or_time=plan.group_or_time, n_train=n_train,
        n_test=n_test, columns=[],
        origin=Origin(teacher="scripted-teacher", seed=0, prompts={}, tokens_in=0, tokens_out=0, usd=0.0))
