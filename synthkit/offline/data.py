"""The embedded Hub's folder: the catalogue's datasets as Parquet files with cards, exported at first use.

The folder's name is a hash of all that the export depends on, so a changed exporter or another version of a source
exports anew. A dataset's commit is a hash of its table and card, so the same data has the same commit on every machine.
An export is made in a temporary folder and renamed, so two processes may start it at once.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from synthkit.core.errors import EndpointError
from synthkit.core.paths import cache_dir

if TYPE_CHECKING:
    import pandas as pd

    from synthkit.offline.catalogue import Entry, Listed, StandIn

INDEX = "index.json"
HERE = Path(__file__).resolve().parent
SOURCES = ("scikit-learn", "statsmodels", "pandas", "pyarrow")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def open_data() -> Path:
    """The folder that the embedded Hub serves; exported first where it is missing. Raises EndpointError."""
    parts = [HERE / "data.py", HERE / "catalogue.py", HERE / "tables.py", *(HERE / "entries").glob("*.yaml")]
    return export_once(cache_dir() / f"hub-{hash_parts(parts)}", export_all)


def read_index(folder: Path) -> dict[str, dict[str, Any]]:
    """What the Hub serves, by dataset id: the row of its index, with its files and their sizes."""
    index: dict[str, dict[str, Any]] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return index


def load_table(dataset_id: str) -> "pd.DataFrame":
    """A dataset of the embedded Hub as a table, its splits one after the other."""
    import pandas as pd

    folder = open_data() / dataset_id
    return pd.concat([pd.read_parquet(path) for path in sorted((folder / "data").iterdir())], ignore_index=True)


def hash_parts(files: Iterable[Path]) -> str:
    """Twelve hex digits that change when one of the files or one of the source packages does."""
    digest = hashlib.sha256(json.dumps([f"{name} {version(name)}" for name in SOURCES]).encode())
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def export_once(folder: Path, export: Callable[[Path], None]) -> Path:
    """Fill a folder by `export` unless it is there, and return it. A folder that is there is whole.

    Raises EndpointError when the folder around it cannot be written to.
    """
    if folder.exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        raise EndpointError(f"the embedded data cannot be written to {folder.parent}: {error.strerror}",
                            "set SYNTHKIT_CACHE to a folder that can be written to") from error
    try:
        export(temporary)
        os.chmod(temporary, 0o755)
        temporary.rename(folder)
    except OSError:
        # Another process was first: its folder has the same content and stays.
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def export_all(folder: Path) -> None:
    """Write every dataset of the catalogue, and the index of all entries, those without data included."""
    from synthkit.offline.catalogue import read_catalogue, read_stand_ins

    rows = [export_entry(entry, folder) for entry in read_catalogue().values()]
    rows += [describe_stand_in(entry) for entry in read_stand_ins()]
    (folder / INDEX).write_text(json.dumps({row["id"]: row for row in rows}, indent=1), encoding="utf-8")


def export_entry(entry: "Entry", folder: Path) -> dict[str, Any]:
    """Write one dataset's files and return its row of the index."""
    from synthkit.offline.tables import make_table

    frame, home = make_table(entry), folder / entry.id
    (home / "data").mkdir(parents=True)
    for split, (start, stop) in entry.splits.items():
        part = frame.iloc[start:stop].reset_index(drop=True)
        part.to_parquet(home / "data" / f"{split}-00000-of-00001.parquet", index=False)
    front = describe_front(entry, len(frame))
    card = f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n{write_card(entry, frame)}"
    (home / "README.md").write_text(card, encoding="utf-8")
    # The table as text, not the Parquet bytes: those carry the version of their writer.
    content = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n") + card
    files = {str(path.relative_to(home)): describe_file(path) for path in sorted(home.rglob("*.*"))}
    return describe_row(entry, hashlib.sha1(content.encode()).hexdigest(), front, files)


def describe_row(entry: "Listed", sha: str, front: dict[str, Any], files: dict[str, Any]) -> dict[str, Any]:
    """An entry's row of the index, open to everybody; `front` is its card's front matter."""
    licence = [f"license:{entry.licence}"] if entry.licence else []
    tags = [*licence, f"modality:{entry.modality}", *entry.tags]
    return {"id": entry.id, "sha": sha, "tags": tags, "card_data": front, "files": files,
            "gated": False, "private": False, "disabled": False}


def describe_file(path: Path) -> dict[str, Any]:
    """Size in bytes and sha256 of a file."""
    return {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def describe_stand_in(entry: "StandIn") -> dict[str, Any]:
    """The row of an entry without data; its commit and its files' hashes stand for nothing."""
    sha = hashlib.sha1(entry.id.encode()).hexdigest()
    files = {name: {"size": size, "sha256": sha.ljust(64, "0")} for name, size in entry.files.items()}
    row = describe_row(entry, sha, {"license": entry.licence, "tags": entry.tags}, files)
    return row | {"gated": entry.gated or False, "private": entry.private, "disabled": entry.disabled}


def describe_front(entry: "Entry", rows: int) -> dict[str, Any]:
    """The card's front matter, which the Hub's clients read: licence, tags, and the files of each split."""
    licence = {"license": entry.licence} if entry.licence else {}
    files = [{"split": split, "path": f"data/{split}-*"} for split in entry.splits]
    size = next(name for limit, name in SIZES if rows < limit)
    return licence | {"pretty_name": entry.title, "tags": entry.tags, "size_categories": [size],
                      "configs": [{"config_name": "default", "data_files": files}]}


def write_card(entry: "Entry", frame: "pd.DataFrame") -> str:
    """The card's text: what a row is, what the columns mean, the licence, and where the data come from."""
    source = entry.id.split("/")[0]
    columns = [f"- `{name}`: {meaning}" for name, meaning in entry.columns.items()]
    more = [f"- {entry.more_columns}"] if entry.more_columns else []
    licence = f"Licence: {entry.licence or 'the source states none'}"
    note = f" ({entry.licence_note})" if entry.licence_note else ""
    rows = f"{len(frame)} rows, {frame.shape[1]} columns."
    return "\n".join([
        f"# {entry.title}", "", entry.about, "", rows, "", *columns, *more, "",
        f"{licence}{note}. Exported from the Python package {source}.", f"Source: {entry.citation}", "",
    ])
