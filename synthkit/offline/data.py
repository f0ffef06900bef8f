"""The embedded Hub's folder: the catalogue's datasets as Parquet files with cards, exported at first use.

The commit of a dataset is a hash of its table and card, so the same data has the same revision on every
machine. An export is made in a temporary folder and renamed, so two processes may start it at once.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.core.endpoints import cache_dir

if TYPE_CHECKING:
    import pandas as pd

    from synthkit.offline.catalogue import Entry

VERSION = 1
DATA_FILE = "data/train-00000-of-00001.parquet"
INDEX = "index.json"

# Entries that the checks of stage 02 have to refuse before anything is fetched; they hold no data.
REFUSED: tuple[dict[str, Any], ...] = (
    {"id": "synthkit-examples/gated-clinic-visits", "gated": "manual", "license": "cc-by-4.0"},
    {"id": "synthkit-examples/private-survey", "private": True, "license": "cc-by-4.0"},
    {"id": "synthkit-examples/script-only-traffic", "license": "mit", "files": {"script-only-traffic.py": 2048}},
    {"id": "synthkit-examples/too-large-clicks", "license": "mit",
     "files": {"data/train-00000-of-00001.parquet": 4_000_000_000}},
    {"id": "synthkit-examples/disabled-prices", "license": "mit", "disabled": True},
)


def open_data() -> Path:
    """The folder that the embedded Hub serves; exported first where it is missing or of another version."""
    folder = cache_dir() / f"hub-v{VERSION}"
    if not (folder / INDEX).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".hub-"))
        export_all(temporary)
        publish(temporary, folder)
    return folder


def publish(temporary: Path, folder: Path) -> None:
    """Rename a finished folder into its place; when another process was first, its folder stays."""
    os.chmod(temporary, 0o755)
    try:
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary)
        if not folder.exists():
            raise


def export_all(folder: Path) -> None:
    from synthkit.offline.catalogue import ENTRIES

    index = [export_entry(entry, folder) for entry in ENTRIES]
    index += [describe_refused(row) for row in REFUSED]
    (folder / INDEX).write_text(json.dumps(index, indent=1))


def export_entry(entry: "Entry", folder: Path) -> dict[str, Any]:
    """Write one dataset's files and return its row of the index."""
    frame = entry.make()
    card = write_card(entry, frame)
    home = folder / entry.id
    (home / DATA_FILE).parent.mkdir(parents=True)
    frame.to_parquet(home / DATA_FILE, index=False)
    (home / "README.md").write_text(card, encoding="utf-8")
    content = frame.to_csv(index=False, float_format="%.10g").encode() + card.encode()
    licence = [f"license:{entry.licence}"] if entry.licence else []
    return {
        "id": entry.id, "sha": hashlib.sha1(content).hexdigest(), "title": entry.title, "license": entry.licence,
        "tags": [*licence, "format:parquet", "modality:tabular", *entry.tags], "rows": len(frame),
        "files": {name: describe_file(home / name) for name in ("README.md", DATA_FILE)},
    }


def describe_file(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def describe_refused(row: dict[str, Any]) -> dict[str, Any]:
    files = {name: {"size": size, "sha256": "0" * 64} for name, size in row.get("files", {}).items()}
    return row | {
        "sha": hashlib.sha1(row["id"].encode()).hexdigest(), "title": row["id"].split("/")[1], "rows": 0,
        "tags": [f"license:{row['license']}"], "files": files,
    }


def write_card(entry: "Entry", frame: "pd.DataFrame") -> str:
    """The card, with the front matter that the Hub's clients read."""
    licence = f"license: {entry.licence}\n" if entry.licence else ""
    columns = "\n".join(f"- `{name}` ({frame[name].dtype})" for name in frame.columns)
    return (
        f"---\n{licence}pretty_name: {entry.title}\nconfigs:\n- config_name: default\n  data_files:\n"
        f"  - split: train\n    path: data/train-*\n---\n# {entry.title}\n\n{entry.about}\n\n"
        f"{len(frame)} rows. Exported from {entry.id.split('/')[0]}.\n\n{columns}\n"
    )
