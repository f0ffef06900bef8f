"""Pictures among a table's columns: kept as the Hub gives them until a task is written, then PNG files and their paths.

The Hub's image columns are records of `bytes` and `path`. A task's picture is re-encoded, so that nothing but pixels of
it remains, and no larger than MAX_SIDE, which keeps tasks small.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import pandas as pd

from synthkit.core.errors import HubError

FOLDER = "images"
MAX_SIDE = 96  # pixels


def holds_pictures(values: pd.Series) -> bool:
    """Whether a column's first value is a picture as the Hub's Parquet files hold them."""
    known = values.dropna()
    first = known.iloc[0] if len(known) and known.dtype == object else None
    return isinstance(first, dict) and isinstance(first.get("bytes"), bytes)


def describe_picture(picture: dict[str, Any]) -> str:
    """Size and colour of a picture, for a prompt."""
    image = read_picture(picture)
    return f"{image.width}x{image.height} pixels, {'grey' if image.mode == 'L' else 'colour'}"


def write_pictures(values: pd.Series, folder: Path, name: str) -> list[str]:
    """Write each picture below the folder of a task's data; returns their paths in it, in the rows' order."""
    place = folder / FOLDER / name
    place.mkdir(parents=True, exist_ok=True)
    paths = [f"{FOLDER}/{name}/{number:05d}.png" for number in range(len(values))]
    for path, picture in zip(paths, values, strict=True):
        read_picture(picture).save(folder / path)
    return paths


def read_picture(picture: Any) -> Any:
    """A picture in grey or colour, at most MAX_SIDE on a side. Raises HubError with reason bad_image."""
    from PIL import Image

    try:
        image: Any = Image.open(io.BytesIO(picture["bytes"]))
        # A JPEG is decoded at a smaller size right away.
        image.draft(None, (MAX_SIDE, MAX_SIDE))
        image = image.convert("L" if image.mode in ("1", "L", "I", "I;16") else "RGB")
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        raise HubError("bad_image", f"a picture cannot be read: {type(error).__name__}: {error}") from error
    return image


def hash_pictures(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """A task's table with the content's hash in place of each picture's path, so that equal pictures are equal."""
    hashed = {name: [hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in frame[name]]
              for name in frame.columns if holds_paths(frame[name])}
    return frame.assign(**hashed)


def holds_paths(values: pd.Series) -> bool:
    """Whether a column holds paths of pictures, as a task's tables do."""
    return bool(len(values)) and str(values.iloc[0]).startswith(f"{FOLDER}/")
