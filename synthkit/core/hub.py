"""Datasets on the Hugging Face Hub: found, checked before anything is fetched, pinned by commit, read as a table.

The endpoint is handed to every call, so the embedded Hub and the real one run through the same code;
the token comes from the environment. No loading script is ever run. Tried against loopback servers
that speak the Hub's protocol; against the real Hub it could not be tried where this was written.
"""

import errno
import fnmatch
import hashlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

from synthkit.core.endpoints import EMBEDDED, read_secret, resolve_endpoint
from synthkit.core.errors import EndpointError, HubError, RecordError, TransientEndpointError
from synthkit.core.files import explain_full_disk
from synthkit.core.params import HubParams
from synthkit.core.paths import cache_dir
from synthkit.core.personal_data import find_personal_data

if TYPE_CHECKING:
    import pandas as pd

READERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json"}
CARD_CHARS = 2000
SPLIT_NAMES = {"train": "train", "test": "test", "validation": "validation", "valid": "validation", "dev": "validation"}
SCRIPT_SIGNS = (".py",)
OUT_OF_SOMETHING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # Of this machine: no fault of a dataset.
RETRY_WAITS_S = (1.0, 4.0, 16.0)
T = TypeVar("T")
_reading = threading.Lock()


@dataclass(frozen=True)
class Candidate:
    """A dataset that may be meant: the one that was named (`exact`) or one that a search found."""

    id: str
    exact: bool
    downloads: int = 0
    tags: tuple[str, ...] = ()


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


class HubClient:
    """The Hub, or the embedded one. Safe for threads. Raises EndpointError when it cannot be reached."""

    def __init__(self, hub: HubParams):
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        self.params = hub
        self.endpoint = resolve_endpoint("hub", hub.endpoint)
        token = read_secret(hub.token_env) if hub.endpoint != EMBEDDED else ""
        self.api = HfApi(endpoint=self.endpoint, token=token or False)
        self.folders: dict[str, Path] = {}
        self.locks: dict[str, threading.Lock] = {}

    def find(self, dataset_id: str, queries: Iterable[str], limit: int) -> list[Candidate]:
        """The named dataset if it exists, else up to `limit` near matches, the most downloaded first."""
        if "/" in dataset_id and self._exists(dataset_id):
            return [Candidate(dataset_id, exact=True)]
        found: dict[str, Candidate] = {}
        for query in filter(None, (dataset_id.split("/")[-1].strip(), *queries)):
            for hit in self._call(dataset_id, lambda q=query: list(self.api.list_datasets(search=q, limit=limit))):
                tags = tuple(hit.tags or ())
                found.setdefault(hit.id, Candidate(hit.id, False, hit.downloads or 0, tags))
        return sorted(found.values(), key=lambda c: (-c.downloads, c.id))[:limit]

    def _exists(self, dataset_id: str) -> bool:
        try:
            self._call(dataset_id, lambda: self.api.dataset_info(dataset_id, timeout=self.params.timeout_s))
        except HubError as error:
            return error.reason != "not_found"
        return True

    def verify(
        self, dataset_id: str, licences: Iterable[str], unknown_licence: str, max_download_mb: int
    ) -> DatasetInfo:
        """Check access, licence, files and size. Raises HubError with reason not_found, gated, private, disabled,
        licence, needs_code, no_data, too_large or personal_data; nothing has been downloaded by then but the card."""
        timeout = self.params.timeout_s
        found = self._call(
            dataset_id, lambda: self.api.dataset_info(dataset_id, files_metadata=True, timeout=timeout)
        )
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
        text = self._read_card(dataset_id, str(found.sha))
        if flag := find_personal_data(found.tags or [], text):
            raise HubError("personal_data", f"the card of {dataset_id} says that it holds personal data: {flag}")
        return DatasetInfo(
            id=dataset_id, revision=str(found.sha), licence=licence, card=text[:CARD_CHARS],
            citation=found.citation or "", files=sorted(files, key=lambda f: f.path), splits=splits, size_bytes=size,
        )

    def _read_card(self, dataset_id: str, revision: str) -> str:
        from huggingface_hub import DatasetCard

        try:
            path = self._download(dataset_id, "README.md", revision, cache_dir=cache_dir() / "huggingface")
        except HubError as error:
            if error.reason != "no_data":
                raise
            return ""
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        return DatasetCard(text, ignore_metadata_errors=True).text.strip()

    def fetch(self, info: DatasetInfo, dest: Path) -> DatasetInfo:
        """Download the data files of the pinned commit below `dest`; files that are there are not fetched again.

        Returns the dataset with the hashes of its files.
        """
        folder = dest / info.id.replace("/", "__") / info.revision[:12]
        with self.locks.setdefault(info.id, threading.Lock()):
            for file in info.files:
                if not (folder / file.path).exists():
                    self._download(info.id, file.path, info.revision, local_dir=folder)
        self.folders[info.id] = folder
        return info.model_copy(update={"files": [
            file.model_copy(update={"sha256": hash_file(folder / file.path)}) for file in info.files]})

    def load_frame(self, info: DatasetInfo) -> "tuple[pd.DataFrame, dict[str, int]]":
        """A fetched dataset as one table, its splits one after the other, and the number of rows of each."""
        from datasets import Dataset, concatenate_datasets, disable_progress_bars

        disable_progress_bars()
        folder = self.folders[info.id]
        parts = {split: [read_file(Dataset, folder / path, folder / ".arrow") for path in paths]
                 for split, paths in info.splits.items()}
        rows = {split: sum(part.num_rows for part in group) for split, group in parts.items()}
        try:
            return concatenate_datasets([part for group in parts.values() for part in group]).to_pandas(), rows
        except (ValueError, TypeError) as error:
            raise HubError("no_data", f"{info.id}: its files are not parts of one table: {str(error)[:200]}") from error

    def _download(self, dataset_id: str, path: str, revision: str, **where: Path) -> str:
        """One file, whole or not at all; the Hub's client tries again by itself."""
        with explain_full_disk(next(iter(where.values()))):
            return self._ask(dataset_id, lambda: self.api.hf_hub_download(
                dataset_id, path, repo_type="dataset", revision=revision, etag_timeout=self.params.timeout_s, **where))

    def _call(self, dataset_id: str, call: Callable[[], T]) -> T:
        """A question to the Hub. Its exceptions become typed ones; what may pass is asked again a little later."""
        attempts = Retrying(
            stop=stop_after_attempt(len(RETRY_WAITS_S) + 1), wait=wait_chain(*map(wait_fixed, RETRY_WAITS_S)),
            retry=retry_if_exception_type(TransientEndpointError), reraise=True)
        return attempts(self._ask, dataset_id, call)

    def _ask(self, dataset_id: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:
            explained = self._explain(error, dataset_id)
            if explained is error:
                raise
            raise explained from error

    def _explain(self, error: Exception, dataset_id: str) -> Exception:
        return explain_error(error, dataset_id, f"the Hub at {self.endpoint}", self.params.token_env)


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def explain_error(error: Exception, name: str, where: str, token_env: str) -> Exception:
    """An exception of the Hub's client as a typed reason or an EndpointError; anything else as it is."""
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return HubError("gated", f"{name} is gated: its terms have to be accepted by a person")
    if isinstance(error, errors.DisabledRepoError):
        return HubError("disabled", f"{name} is disabled on the Hub")
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return HubError("not_found", f"there is no dataset {name}, or it is private")
    unreachable = f"{where} cannot be reached", "check hub.endpoint and the network, then start again"
    # The client says that a file is not in its cache when the Hub did not answer: that is no missing file.
    if isinstance(error, errors.LocalEntryNotFoundError):
        return TransientEndpointError(*unreachable)
    if isinstance(error, errors.EntryNotFoundError | errors.RevisionNotFoundError):
        return HubError("no_data", f"{name}: a file of the pinned commit is gone")
    if isinstance(error, errors.HfHubHTTPError):
        return explain_status(error.response.status_code, name, where, token_env)
    if isinstance(error, httpx2.ConnectError | ConnectionError):
        return EndpointError(*unreachable)
    if isinstance(error, httpx2.HTTPError | TimeoutError):
        return TransientEndpointError(*unreachable)
    return error


def explain_status(status: int, name: str, where: str, token_env: str) -> Exception:
    if status in (401, 403):
        return EndpointError(f"{where} refused the token", f"set or renew {token_env}")
    if status in (408, 409, 429) or status >= 500:
        return TransientEndpointError(f"{where} answered {status}", "start again later")
    return HubError("not_found", f"{where} refused to look up {name} (status {status})")


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


def read_file(dataset: Any, path: Path, cache: Path) -> Any:
    readers = {"parquet": dataset.from_parquet, "csv": dataset.from_csv, "json": dataset.from_json}
    try:
        # Two readers at once trip over the lock that `datasets` sets and deletes on its progress bars.
        with _reading, explain_full_disk(cache):
            return readers[READERS[path.suffix]](str(path), cache_dir=str(cache))
    except (RecordError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OUT_OF_SOMETHING:
            raise
        raise HubError("no_data", f"{path.name} cannot be read as a table: {str(error)[:200]}") from error
