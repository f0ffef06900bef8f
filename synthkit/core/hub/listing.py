"""What a dataset's listing on the Hub says before anything is fetched: licence, data files and splits."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from synthkit.core.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub import DatasetCardData

# The kinds of files that hold data, and the reader of each; of kinds that are equally common the first is taken.
READERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json"}
SPLIT_NAMES = {"train": "train", "test": "test", "validation": "validation", "valid": "validation", "dev": "validation"}
SCRIPT_SIGNS = (".py",)


@dataclass(frozen=True)
class Match:
    """A dataset that may be meant: the one that was named (`exact`), or a hit of a search."""

    id: str
    exact: bool
    downloads: int = 0


class HubFile(BaseModel):
    """A file of the pinned commit; `sha256` is of what was fetched, '' before that."""

    path: str
    size: int
    sha256: str = ""


class DatasetInfo(BaseModel):
    """A dataset that passed all checks, pinned: `revision` is a commit, `card` the card's text without front matter."""

    id: str
    revision: str
    licence: str
    card: str
    citation: str = ""
    files: list[HubFile]
    splits: dict[str, list[str]]
    size_bytes: int


def read_licence(card: "DatasetCardData | None", tags: Iterable[str]) -> str:
    """The licence from the card, else from the tags, in lower case; 'unknown' when neither says."""
    given = getattr(card, "license", None)
    given = given[0] if isinstance(given, list) and given else given
    tagged = next((t.removeprefix("license:") for t in tags if t.startswith("license:")), None)
    return str(given or tagged or "unknown").lower()


def check_licence(dataset_id: str, licence: str, licences: Iterable[str], unknown_licence: str) -> str:
    """The licence, if it is in the list of those allowed. Raises HubError with reason licence.

    `unknown_licence` is 'accept' where 'unknown' and 'other' pass too.
    """
    allowed = {name.lower() for name in licences}
    if licence in ("unknown", "other") and unknown_licence == "accept":
        return licence
    if licence not in allowed:
        raise HubError("licence", f"{dataset_id} has licence {licence!r}, which is not in the allowed list")
    return licence


def find_splits(dataset_id: str, names: list[str], configs: Any) -> dict[str, list[str]]:
    """The data files of the default configuration by split, from the card's configs or else from the file names.

    Raises HubError with reason needs_code or no_data when there are none.
    """
    data = sorted(n for n in names if Path(n).suffix in READERS and not Path(n).name.startswith((".", "dataset_info")))
    if not data:
        if any(n.endswith(SCRIPT_SIGNS) for n in names):
            raise HubError("needs_code", f"{dataset_id} has a loading script and no data files; no remote code is run")
        raise HubError("no_data", f"{dataset_id} has no CSV, JSON or Parquet files")
    chosen = splits_of_card(data, configs) or splits_of_names(data)
    return {name: chosen[name] for name in sorted(chosen)}


def splits_of_card(data: list[str], configs: Any) -> dict[str, list[str]]:
    """The files of each split as the `configs` of a card's front matter name them; empty where they name none.

    Of several configurations the one counts that is marked or named default, else the first.
    """
    entries = [c for c in configs or [] if isinstance(c, dict)]
    config = next((c for c in entries if c.get("default") or c.get("config_name") == "default"), None)
    config = config or (entries[0] if entries else {})
    rules = config.get("data_files") or []
    rules = [rules] if isinstance(rules, str) else rules
    rules = [{"split": split, "path": path} for split, path in rules.items()] if isinstance(rules, dict) else rules
    found: dict[str, list[str]] = {}
    for rule in rules:
        rule = {"split": "train", "path": rule} if isinstance(rule, str) else rule
        path = rule.get("path", [])
        patterns = path if isinstance(path, list) else [path]
        paths = [n for n in data if any(fnmatch.fnmatch(n, p.replace("**/", "*")) for p in patterns)]
        if paths:
            found[str(rule.get("split", "train"))] = paths
    return found


def splits_of_names(data: list[str]) -> dict[str, list[str]]:
    """Files of the commonest kind, by the split that their path names; those that name none are train."""
    kinds = [Path(n).suffix for n in data]
    kind = max(READERS, key=kinds.count)
    found: dict[str, list[str]] = {}
    for name in (n for n in data if Path(n).suffix == kind):
        words = name.lower().replace("/", "-").replace("_", "-").replace(".", "-").split("-")
        split = next((SPLIT_NAMES[w] for w in words if w in SPLIT_NAMES), "train")
        found.setdefault(split, []).append(name)
    return found
