"""What the scripted teacher knows: topics, the data sets it names for them, its plans and its task code.

All of it was written by people; nothing here is random. The files of a topic lie in library/<slug>/: topic.yaml, and
baseline.py where the topic has a plan. evaluate.py is composed from gym/scoring/templates. A first draft may hold
flaws: each is one replacement in a good file, and says which evidence the teacher must see before it mends the flaw.
"""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from synthkit.gym.scoring.evaluations import compose_evaluate, read_metrics

LIBRARY = Path(__file__).resolve().parent / "library"

TaskFile = Literal["description", "baseline_py", "evaluate_py"]
# The gates of stage 04 that a teacher's code can meet, and what the first one says of data.
Gate = Literal["static", "schema", "baseline", "evaluate", "oracle", "corrupt", "order", "headroom", "scores"]
LeakReason = Literal["leak_feature", "leak_id", "leak_order", "leak_duplicates"]


class Strict(BaseModel):
    """A part of the library: an unknown key is a fault, and no value changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetIdea(Strict):
    """What the teacher answers when it is asked for a data set; right or wrong."""

    dataset_id: str
    search_words: list[str]
    reason: str


class Plan(Strict):
    """What the teacher makes of the data set once it has seen it."""

    target: str
    task_kind: Literal["classification", "regression"]
    metric: str
    features: list[str]
    split: Literal["random", "stratified", "grouped", "time"]
    group_or_time: str | None = None
    title: str
    description: str


class Flaw(Strict):
    """One thing wrong in a first draft: `wrong` stands where a good draft has `right`.

    `gate` and `reason` say which check of stage 04 has to refuse it. The teacher mends it when a repair request holds
    one of the texts in `evidence`; a flaw without evidence is never mended.
    """

    kind: str
    gate: Gate
    reason: str = Field(pattern="^[a-z_]+$")
    file: TaskFile
    right: str = Field(min_length=1)
    wrong: str
    evidence: list[str] = []

    def spoil(self, files: dict[str, str]) -> dict[str, str]:
        """The files with this flaw in them."""
        return files | {self.file: files[self.file].replace(self.right, self.wrong)}

    def is_in(self, files: dict[str, str]) -> bool:
        """Whether the files have this flaw: what would be right is not there."""
        return self.right not in files.get(self.file, "")


class Entry(Strict):
    """One topic with all that the teacher says about it. `plan` is None where stage 02 refuses every data set."""

    slug: str
    title: str
    rewording: str | None = Field(None, description="the same topic in nearly the same words")
    summary: str
    area: str
    modality: str
    task_type: str
    difficulty: str
    dataset: DatasetIdea
    plan: Plan | None = None
    flaws: list[Flaw] = []
    leak: LeakReason | None = Field(None, description="why stage 04 has to refuse the plan for good, whatever the code")

    def good_files(self) -> dict[str, str]:
        """Description, baseline and evaluation without a flaw, by the field names of TaskCode; empty without a plan."""
        if self.plan is None:
            return {}
        return {
            "description": self.plan.description + " " + read_metrics()[self.plan.metric]["sentence"],
            "baseline_py": (LIBRARY / self.slug / "baseline.py").read_text(encoding="utf-8"),
            "evaluate_py": compose_evaluate(self.plan.task_kind, self.plan.metric),
        }

    def draft(self, flaws: list[Flaw]) -> dict[str, str]:
        """The files with some of the flaws in them."""
        files = self.good_files()
        for flaw in flaws:
            files = flaw.spoil(files)
        return files


@cache
def load_library() -> dict[str, Entry]:
    """All topics by slug, in the order of their folders' names. Raises ValueError naming a topic with a bad form."""
    entries = {}
    for path in sorted(LIBRARY.glob("*/topic.yaml")):
        entry = Entry(slug=path.parent.name, **read_yaml(path))
        check_flaws(entry)
        entries[entry.slug] = entry
    return entries


def check_flaws(entry: Entry) -> None:
    """Raises ValueError for a flaw that does not change exactly one place of its file: its author meant another."""
    good = entry.good_files()
    for flaw in entry.flaws:
        if good[flaw.file].count(flaw.right) != 1 or flaw.right in flaw.wrong:
            raise ValueError(f"{entry.slug}: the flaw {flaw.kind!r} must replace exactly one place in {flaw.file}")


def find_topic(title: str) -> Entry | None:
    """The topic of that title, whose words may be the topic's own or its rewording; None for any other title."""
    wanted = title.strip().lower()
    for entry in load_library().values():
        if wanted in (entry.title.lower(), (entry.rewording or "").lower()):
            return entry
    return None


def read_yaml(path: Path) -> dict[str, Any]:
    """A topic's file, read by libyaml where it is there: the whole library is read before the first reply."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    values: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    return values
