"""The Hub's client of a stage: search, check, fetch, read.

Every call goes to the endpoint of the parameters, so the embedded Hub and the real one run through the same code. The
token comes from the environment. Tried against loopback servers that speak the Hub's protocol; against the real Hub it
could not be tried where this was written.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

from synthkit.core.endpoints import EMBEDDED, read_secret, resolve_endpoint
from synthkit.core.errors import HubError, TransientEndpointError
from synthkit.core.files import explain_full_disk
from synthkit.core.fingerprint import hash_file
from synthkit.core.hub.faults import explain_error
from synthkit.core.hub.listing import DatasetInfo, HubFile, Match, check_licence, find_splits, read_licence
from synthkit.core.hub.personal_data import find_personal_data
from synthkit.core.hub.tables import load_table
from synthkit.core.params import HubParams
from synthkit.core.paths import cache_dir

if TYPE_CHECKING:
    import pandas as pd

CARD_CHARS = 2000
RETRY_WAITS_S = (1.0, 4.0, 16.0)
T = TypeVar("T")


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

    def find(self, dataset_id: str, queries: Iterable[str], limit: int) -> list[Match]:
        """The named dataset if it exists, else up to `limit` near matches, the most downloaded first."""
        if "/" in dataset_id and self._exists(dataset_id):
            return [Match(dataset_id, exact=True)]
        found: dict[str, Match] = {}
        for query in filter(None, (dataset_id.split("/")[-1].strip(), *queries)):
            for hit in self._call(dataset_id, partial(self._search, query, limit)):
                found.setdefault(hit.id, Match(hit.id, exact=False, downloads=hit.downloads or 0))
        return sorted(found.values(), key=lambda match: (-match.downloads, match.id))[:limit]

    def _search(self, query: str, limit: int) -> list[Any]:
        return list(self.api.list_datasets(search=query, limit=limit))

    def _exists(self, dataset_id: str) -> bool:
        try:
            self._call(dataset_id, lambda: self.api.dataset_info(dataset_id, timeout=self.params.timeout_s))
        except HubError as error:
            return error.reason != "not_found"
        return True

    def verify(
        self, dataset_id: str, licences: Iterable[str], unknown_licence: str, max_download_mb: int
    ) -> DatasetInfo:
        """A dataset that may be used, pinned; nothing of it has been downloaded by then but the card.

        Access, licence, files, size and the card are checked, in this order. A MB is a million bytes.
        Raises HubError with reason not_found, gated, private, disabled, licence, needs_code, no_data, too_large or
        personal_data.
        """
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
        return str(DatasetCard(text, ignore_metadata_errors=True).text.strip())

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
        """A dataset that `fetch` brought, as one table, and the rows of each split. Raises what `load_table` raises."""
        return load_table(info, self.folders[info.id])

    def _download(self, dataset_id: str, path: str, revision: str, **where: Path) -> str:
        """One file, whole or not at all; the Hub's client tries again by itself."""
        with explain_full_disk(next(iter(where.values()))):
            return str(self._ask(dataset_id, lambda: self.api.hf_hub_download(
                dataset_id, path, repo_type="dataset", revision=revision, etag_timeout=self.params.timeout_s, **where)))

    def _call(self, dataset_id: str, call: Callable[[], T]) -> T:
        """A question to the Hub. Its exceptions become typed ones; what may pass is asked again a little later."""
        attempts = Retrying(
            stop=stop_after_attempt(len(RETRY_WAITS_S) + 1), wait=wait_chain(*map(wait_fixed, RETRY_WAITS_S)),
            retry=retry_if_exception_type(TransientEndpointError), reraise=True)
        answer: T = attempts(self._ask, dataset_id, call)
        return answer

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
