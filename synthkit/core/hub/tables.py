"""Fetched files as one table; no loading script is ever run."""

import errno
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.core.errors import HubError, RecordError
from synthkit.core.files import explain_full_disk
from synthkit.core.hub.listing import READERS, DatasetInfo

if TYPE_CHECKING:
    import pandas as pd

OUT_OF_SOMETHING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # Of this machine: no fault of a dataset.
_reading = threading.Lock()


def load_table(info: DatasetInfo, folder: Path) -> "tuple[pd.DataFrame, dict[str, int]]":
    """The files of a dataset below a folder as one table, split after split, and the number of rows of each split.

    Raises HubError with reason no_data for files that cannot be read, or that are not parts of one table.
    """
    from datasets import Dataset, concatenate_datasets, disable_progress_bars

    disable_progress_bars()
    parts = {split: [read_file(Dataset, folder / path, folder / ".arrow") for path in paths]
             for split, paths in info.splits.items()}
    rows = {split: sum(part.num_rows for part in group) for split, group in parts.items()}
    try:
        return concatenate_datasets([part for group in parts.values() for part in group]).to_pandas(), rows
    except (ValueError, TypeError) as error:
        raise HubError("no_data", f"{info.id}: its files are not parts of one table: {str(error)[:200]}") from error


def read_file(dataset: Any, path: Path, cache: Path) -> Any:
    """One file as a `datasets.Dataset`, kept as Arrow below `cache`; `dataset` is that class.

    Raises HubError with reason no_data for a file that cannot be read, DiskFullError when nothing can be kept.
    """
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
