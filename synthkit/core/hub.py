"""Datasets on the Hugging Face Hub: found, checked before anything is fetched, pinned by commit, read as a table.

The endpoint is handed to every call, so the embedded Hub and the real one run through the same code;
the token comes from the environment. No loading script is ever run. Tried against loopback servers
that speak the Hub's protocol; against the real Hub it could not be tried where this was written.
"""

import fnmatch
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from synthkit.core.endpoints import resolve_endpoint
from synthkit.core.errors import EndpointError, HubError, TransientEndpointError
from synthkit.core.params import HubParams

if TYPE_CHECKING:
    import pandas as pd

READERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json"}
CARD_CHARS = 2000
SPLIT_NAMES = {"train": "train", "test": "test", "validation": "validation", "valid": "validation", "dev": "validation"}
SCRIPT_SIGNS = (".py",)
_reading = threading.Lock()


@dataclass(frozen=True)
class Candidate:
    """A dataset that may be meant: the one that was named (`exact`) or one that a search found."""

    id: str
    exact: bool
    downloads: int = 0
    tags: tuple[str, ...] = ()


class HubFile(BaseModel):
    path: str
    size: int


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


class HubClient:
    """The Hub, or the embedded one. Safe for threads. Raises EndpointError when it cannot be reached."""

    def __init__(self, hub: HubParams):
        from huggingface_hub import HfApi

        self.params = hub
        self.endpoint = resolve_endpoint("hub", hub.endpoint)
        self.api = HfApi(endpoint=self.endpoint, token=os.environ.get(hub.token_env) or False)
        self.folders: dict[str, Path] = {}
        self.locks: dict[str, threading.Lock] = {}

    def find(self, dataset_id: str, queries: Iterable[str], limit: int) -> list[Candidate]:
        """The named dataset if it exists, else up to `limit` near matches, the most downloaded first."""
        if "/" in dataset_id and self._exists(dataset_id):
            return [Candidate(dataset_id, exact=True)]
        found: dict[str, Candidate] = {}
        for query in (dataset_id.split("/")[-1], *queries):
            with self._explained(dataset_id):
                for hit in self.api.list_datasets(search=query, limit=limit):
                    tags = tuple(hit.tags or ())
                    found.setdefault(hit.id, Candidate(hit.id, False, hit.downloads or 0, tags))
        return sorted(found.values(), key=lambda c: (-c.downloads, c.id))[:limit]

    def _exists(self, dataset_id: str) -> bool:
        try:
            with self._explained(dataset_id):
                self.api.dataset_info(dataset_id, timeout=self.params.timeout_s)
        except HubError as error:
            return error.reason != "not_found"
        return True

    def verify(
        self, dataset_id: str, licences: Iterable[str], unknown_licence: str, max_download_mb: int
    ) -> DatasetInfo:
        """Check access, licence, files and size. Raises HubError with reason not_found, gated, private, disabled,
        licence, needs_code, no_data or too_large; nothing has been downloaded by then but the card."""
        with self._explained(dataset_id):
            found = self.api.dataset_info(dataset_id, files_metadata=True, timeout=self.params.timeout_s)
        if found.disabled:
            raise HubError("disabled", f"{dataset_id} is disabled on the Hub")
        if found.gated:
            raise HubError("gated", f"{dataset_id} is gated: its terms have to be accepted by a person")
        if found.private:
            raise HubError("private", f"{dataset_id} is private")
        card = found.card_data
        licence = check_licence(dataset_id, read_licence(card, found.tags or []), licences, unknown_licence)
        names = [s.rfilename for s in found.siblings or []]
        splits = find_splits(dataset_id, names, getattr(card, "configs", None))
        wanted = {path for paths in splits.values() for path in paths}
        files = [HubFile(path=s.rfilename, size=s.size or 0) for s in found.siblings or [] if s.rfilename in wanted]
        size = sum(f.size for f in files)
        if size > max_download_mb * 1e6:
            raise HubError("too_large", f"{dataset_id}: {size / 1e6:.0f} MB of data, {max_download_mb} MB are allowed")
        return DatasetInfo(
            id=dataset_id, revision=str(found.sha), licence=licence, card=self._read_card(dataset_id, str(found.sha)),
            citation=found.citation or "", files=sorted(files, key=lambda f: f.path), splits=splits, size_bytes=size,
        )

    def _read_card(self, dataset_id: str, revision: str) -> str:
        from huggingface_hub import DatasetCard
        from huggingface_hub.errors import EntryNotFoundError

        try:
            path = self.api.hf_hub_download(dataset_id, "README.md", repo_type="dataset", revision=revision)
        except EntryNotFoundError:
            return ""
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        return DatasetCard(text, ignore_metadata_errors=True).text.strip()[:CARD_CHARS]

    def fetch(self, info: DatasetInfo, dest: Path) -> Path:
        """Download the data files of the pinned commit below `dest`; files that are there are not fetched again."""
        folder = dest / info.id.replace("/", "__") / info.revision[:12]
        with self.locks.setdefault(info.id, threading.Lock()), self._explained(info.id):
            for file in info.files:
                if not (folder / file.path).exists():
                    self.api.hf_hub_download(
                        info.id, file.path, repo_type="dataset", revision=info.revision, local_dir=folder
                    )
        self.folders[info.id] = folder
        return folder

    def load_frame(self, info: DatasetInfo, split: str | None = None) -> "pd.DataFrame":
        """A fetched dataset as a table: one split, or with None all splits one after the other."""
        from datasets import Dataset, concatenate_datasets, disable_progress_bars

        disable_progress_bars()
        paths = info.splits[split] if split else [p for paths in info.splits.values() for p in paths]
        folder = self.folders[info.id]
        parts = [read_file(Dataset, folder / path, folder / ".arrow") for path in paths]
        return concatenate_datasets(parts).to_pandas()

    def _explained(self, dataset_id: str) -> "Explained":
        return Explained(dataset_id, self.endpoint, self.params)


@dataclass(frozen=True)
class Explained:
    """Around a call of the Hub: its exceptions become typed reasons, or an EndpointError with cause and fix."""

    dataset_id: str
    endpoint: str
    params: HubParams

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            return
        import httpx2
        from huggingface_hub import errors

        name, where = self.dataset_id, f"the Hub at {self.endpoint}"
        if isinstance(error, errors.GatedRepoError):
            raise HubError("gated", f"{name} is gated") from error
        if isinstance(error, errors.DisabledRepoError):
            raise HubError("disabled", f"{name} is disabled on the Hub") from error
        if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
            raise HubError("not_found", f"there is no dataset {name}, or it is private") from error
        if isinstance(error, errors.EntryNotFoundError | errors.RevisionNotFoundError):
            raise HubError("no_data", f"{name}: a file of the pinned commit is gone") from error
        if isinstance(error, errors.HfHubHTTPError):
            code = getattr(error.response, "status_code", 0)
            if code in (401, 403):
                raise EndpointError(f"{where} refused the token", f"set or renew {self.params.token_env}") from error
            raise TransientEndpointError(f"{where} answered {code}", "start again later") from error
        if isinstance(error, httpx2.HTTPError | errors.LocalEntryNotFoundError):
            raise EndpointError(f"{where} cannot be reached", "check hub.endpoint and the network") from error


def read_licence(card: Any, tags: Iterable[str]) -> str:
    """The licence from the card, else from the tags, in lower case; 'unknown' when neither says."""
    given = getattr(card, "license", None)
    given = given[0] if isinstance(given, list) and given else given
    tagged = next((t.removeprefix("license:") for t in tags if t.startswith("license:")), None)
    return str(given or tagged or "unknown").lower()


def check_licence(dataset_id: str, licence: str, licences: Iterable[str], unknown_licence: str) -> str:
    allowed = {name.lower() for name in licences}
    if licence in ("unknown", "other") and unknown_licence == "accept":
        return licence
    if licence not in allowed:
        raise HubError("licence", f"{dataset_id} has licence {licence!r}, which is not in the allowed list")
    return licence


def find_splits(dataset_id: str, names: list[str], configs: Any) -> dict[str, list[str]]:
    """The data files of the default configuration by split, from the card's configs or else from the file names."""
    data = sorted(n for n in names if Path(n).suffix in READERS and not Path(n).name.startswith((".", "dataset_info")))
    if not data:
        if any(n.endswith(SCRIPT_SIGNS) for n in names):
            raise HubError("needs_code", f"{dataset_id} has a loading script and no data files; no remote code is run")
        raise HubError("no_data", f"{dataset_id} has no CSV, JSON or Parquet files")
    chosen = splits_of_card(data, configs) or splits_of_names(data)
    return {name: chosen[name] for name in sorted(chosen)}


def splits_of_card(data: list[str], configs: Any) -> dict[str, list[str]]:
    entries = [c for c in configs or [] if isinstance(c, dict)]
    config = next((c for c in entries if c.get("default") or c.get("config_name") == "default"), None)
    config = config or (entries[0] if entries else {})
    rules = config.get("data_files") or []
    rules = [{"split": "train", "path": rules}] if isinstance(rules, str) else rules
    found: dict[str, list[str]] = {}
    for rule in rules:
        rule = {"split": "train", "path": rule} if isinstance(rule, str) else rule
        patterns = rule["path"] if isinstance(rule["path"], list) else [rule["path"]]
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


def read_file(dataset: Any, path: Path, cache: Path) -> Any:
    readers = {"parquet": dataset.from_parquet, "csv": dataset.from_csv, "json": dataset.from_json}
    try:
        # Two readers at once trip over the lock that `datasets` sets and deletes on its progress bars.
        with _reading:
            return readers[READERS[path.suffix]](str(path), cache_dir=str(cache))
    except Exception as error:
        raise HubError("no_data", f"{path.name} cannot be read as a table: {str(error)[:200]}") from error
