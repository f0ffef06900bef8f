"""The datasets that topics stand on: found on the Hub, checked, fetched and read once, however many topics want one."""

import threading
from collections import OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from synthkit.core.errors import HubError
from synthkit.core.hub import DatasetInfo, HubClient, Match
from synthkit.core.params import DatasetsParams
from synthkit.stages.datasets.column_summary import describe_columns
from synthkit.stages.datasets.contamination import Benchmark
from synthkit.stages.datasets.forms import DatasetProposal
from synthkit.stages.datasets.table import clean_frame

KEPT_BYTES = 256 << 20  # Of tables in memory; those that were used longest ago are read again when they are wanted.


@dataclass(frozen=True)
class Source:
    """A dataset that passed the checks, with its table, which nobody changes. `rows` counts it by split."""

    info: DatasetInfo
    frame: pd.DataFrame
    rows: dict[str, int]
    columns: list[str]


@dataclass(frozen=True)
class Found:
    """The source for a topic; `near_match` when it is not the one that was named."""

    source: Source
    near_match: bool


class DatasetCache:
    """The sources of a stage. Safe for threads: one that wants what another is just fetching waits for it.

    Files are read as tables in the one thread of `tables`, so nothing that runs there may ask for a source.
    """

    def __init__(self, hub: HubClient, benchmark: Benchmark, params: DatasetsParams, downloads: Path,
                 tables: ThreadPoolExecutor):
        self.hub, self.benchmark, self.params, self.downloads, self.tables = hub, benchmark, params, downloads, tables
        self.checked: dict[str, DatasetInfo | HubError] = {}
        self.open: OrderedDict[str, Source] = OrderedDict()
        self.locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self.keeping = threading.Lock()

    def find(self, proposal: DatasetProposal) -> Found:
        """The dataset that was named or, when there is none of that name, the nearest match that passes the checks.

        Raises HubError with the typed reason: of the named dataset, or not_found.
        """
        self.benchmark.check_id(proposal.dataset_id)
        matches = self.look_up(proposal)
        for match in matches:
            if match.exact:
                return Found(self.take(match.id), near_match=False)
        for match in matches:
            try:
                return Found(self.take(match.id), near_match=True)
            except HubError:
                continue
        raise HubError("not_found", f"there is no dataset {proposal.dataset_id}, and none of {len(matches)} near "
                       "matches passes the checks")

    def look_up(self, proposal: DatasetProposal) -> list[Match]:
        """The matches for a dataset that the teacher named; no request is sent for one that is known."""
        if proposal.dataset_id in self.checked:
            return [Match(proposal.dataset_id, exact=True)]
        return self.hub.find(proposal.dataset_id, proposal.search_words, self.params.search_limit)

    def take(self, dataset_id: str) -> Source:
        """A dataset, checked and read. Raises HubError with the typed reason, the same one every time."""
        with self.locks[dataset_id]:
            if dataset_id not in self.checked:
                try:
                    self.checked[dataset_id] = self.check(dataset_id)
                except HubError as error:
                    self.checked[dataset_id] = error
            outcome = self.checked[dataset_id]
            if isinstance(outcome, HubError):
                raise HubError(outcome.reason, outcome.cause)
            return self.tables.submit(self.open_source, outcome).result()

    def check(self, dataset_id: str) -> DatasetInfo:
        """Verify, fetch and read a dataset once. Raises HubError with the typed reason."""
        self.benchmark.check_id(dataset_id)
        params = self.params
        info = self.hub.verify(dataset_id, params.licences, params.unknown_licence, params.max_download_mb)
        info = self.hub.fetch(info, self.downloads)
        self.tables.submit(self.check_rows, info).result()
        return info

    def check_rows(self, info: DatasetInfo) -> None:
        """Read the dataset. Raises HubError when it cannot be read, or holds rows of the benchmark."""
        self.benchmark.check_rows(self.open_source(info).frame)

    def open_source(self, info: DatasetInfo) -> Source:
        """The table from memory, or else from its files."""
        with self.keeping:
            if source := self.open.get(info.id):
                self.open.move_to_end(info.id)
                return source
        frame, rows = self.hub.load_frame(info)
        frame = clean_frame(frame)
        source = Source(info, frame, rows, describe_columns(frame))
        with self.keeping:
            self.open[info.id] = source
            while len(self.open) > 1 and sum(map(measure_bytes, self.open.values())) > KEPT_BYTES:
                self.open.popitem(last=False)
        return source


def measure_bytes(source: Source) -> int:
    """The memory that a source's table takes, in bytes."""
    return int(source.frame.memory_usage(deep=True).sum())
