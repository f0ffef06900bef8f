"""Where things lie: the repository's root, a folder that a parameter names, and the cache between runs."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def find_root() -> Path:
    """The repository's root: the nearest folder above that holds notebooks/ and params/, else where we are."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
            return folder
    return here


def locate(name: str) -> str:
    """A model's name as it is, or the whole path of the folder of that name below the repository's root."""
    folder = find_root() / Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def cache_dir() -> Path:
    """Where exported data is kept between runs: $SYNTHKIT_CACHE, else the cache folder that this system has for it."""
    if given := os.environ.get("SYNTHKIT_CACHE"):
        return Path(given)
    return user_cache_path("synthkit", appauthor=False)


def show_path(path: Path) -> str:
    """A path as a person at the prompt would write it, relative to the working folder."""
    return os.path.relpath(path)
