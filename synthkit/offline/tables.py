"""The tables behind the embedded Hub, made from what scikit-learn and statsmodels install.

No value is made up or filled in: all are the source's, under snake_case names, class codes as the words of the source's
documentation. Series get earlier values beside the current one, so that a row can be predicted from its own columns;
rows that lack one of them are left out.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthkit.offline.catalogue import Entry

FERTILITY_YEARS = (1980, 1985, 1990, 1995, 2000, 2005, 2010)
FERTILITY_LAGS = (5, 10, 20)
PATCHES_PER_PHOTO = 600
AROUND = ["nw", "n", "ne", "w", "e", "sw", "s", "se"]


def make_table(entry: Entry) -> pd.DataFrame:
    """The table of a dataset: the same on every machine that has the same versions of its source."""
    name = entry.id.split("/")[1]
    if entry.shape == "patches":
        return cut_patches()
    if entry.shape == "sunspots":
        return add_lags(read_sunspots(), entry.series, entry.lags)
    frame = load_sklearn(name, entry.target) if entry.target else load_statsmodels(name)
    match entry.shape:
        case "dated":
            frame = name_months(frame, entry.series)
        case "yearly":
            frame = frame.set_axis(["year", entry.series], axis=1)
        case "elnino":
            frame, entry = melt_months(frame), entry.model_copy(update={"series": "temperature"})
        case "fertility":
            frame = stack_years(frame)
    for column, words in entry.labels.items():
        frame[column] = frame[column].map(words)
    return add_lags(frame, entry.series, entry.lags)


def load_sklearn(name: str, target: str) -> pd.DataFrame:
    """A toy dataset of scikit-learn, its target as a column of that name, classes as words where it has them."""
    datasets = importlib.import_module("sklearn.datasets")
    options: dict[str, Any] = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(as_frame=True, **options)
    frame: pd.DataFrame = bunch.data.set_axis([snake_case(c) for c in bunch.data.columns], axis=1)
    words = bunch.get("target_names")
    coded = words is not None and isinstance(words[0], str)
    frame[target] = [str(words[k]) for k in bunch.target] if coded else bunch.target
    return frame


def load_statsmodels(name: str) -> pd.DataFrame:
    """A dataset of statsmodels, whole numbers as such; an index that has a name or dates becomes a column."""
    frame: pd.DataFrame = importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data
    unnamed = "date" if isinstance(frame.index, pd.DatetimeIndex) else None
    index = str(frame.index.name) if frame.index.name else unnamed
    frame = frame.rename_axis(index=index).reset_index(drop=index is None)
    frame = frame.set_axis([snake_case(str(c)) for c in frame.columns], axis=1)
    for column in frame.columns[frame.dtypes.map(pd.api.types.is_datetime64_any_dtype)]:
        frame[column] = frame[column].dt.strftime("%Y-%m-%d")
    whole = [c for c in frame.columns if frame[c].dtype.kind == "f" and (frame[c] % 1 == 0).all()]
    return frame.astype(dict.fromkeys(whole, "int64"))


def snake_case(name: str) -> str:
    """`sepal length (cm)` becomes sepal_length."""
    return name.split(" (")[0].strip().lower().replace(" ", "_").replace("/", "_").replace(".", "_")


def name_months(frame: pd.DataFrame, series: str) -> pd.DataFrame:
    """A date and a value as year, month and value."""
    dates = pd.to_datetime(frame["date"])
    months = {"year": dates.dt.year.astype("int64"), "month": dates.dt.month.astype("int64")}
    return pd.DataFrame(months | {series: frame.iloc[:, 1]})


def melt_months(wide: pd.DataFrame) -> pd.DataFrame:
    """A table of years by months as one row a month, in order of time, with the month's number."""
    names = list(wide.columns[1:])
    long = wide.melt("year", names, "month", "temperature")
    long["month"] = long["month"].map({name: k for k, name in enumerate(names, 1)})
    return long.sort_values(["year", "month"], ignore_index=True)


def read_sunspots() -> pd.DataFrame:
    """The monthly sunspot numbers, which statsmodels installs beside the yearly ones as lines of a year's twelve."""
    package = importlib.import_module("statsmodels.datasets.sunspots")
    path = Path(str(package.__file__)).parent / "src" / "sunspots_monthly.dat"
    lines = path.read_text(encoding="ascii").splitlines()
    years = [words for words in map(str.split, lines) if len(words) == 13 and words[0].isdigit()]
    rows = [(int(year), month, float(value)) for year, *values in years for month, value in enumerate(values, 1)]
    return pd.DataFrame(rows, columns=["year", "month", "activity"])


def stack_years(wide: pd.DataFrame) -> pd.DataFrame:
    """One row for each country and chosen year, with the rates 5, 10 and 20 years before."""
    parts = []
    for year in FERTILITY_YEARS:
        ago = {f"rate_{k}_years_ago": wide[str(year - k)] for k in FERTILITY_LAGS}
        parts.append(pd.DataFrame({"country": wide["country_name"], "year": year, **ago, "rate": wide[str(year)]}))
    return pd.concat(parts).dropna().reset_index(drop=True)


def add_lags(frame: pd.DataFrame, series: str, lags: list[int]) -> pd.DataFrame:
    """The table with a series' values of so many rows before as columns `prev_<lag>`; unchanged without lags."""
    if not lags:
        return frame
    earlier = {f"prev_{k}": frame[series].shift(k) for k in lags}
    return frame.assign(**earlier).dropna().reset_index(drop=True)


def cut_patches() -> pd.DataFrame:
    """3 x 3 patches of the two sample photographs in shades of grey, the centre to be told from the eight around it.

    They are drawn from a grid, so that no two overlap, and shuffled; the seed is fixed.
    """
    from sklearn.datasets import load_sample_images

    rng, parts = np.random.RandomState(0), []
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        grey = np.asarray(image).mean(axis=2).round(1)
        rows, columns = (size // 3 for size in grey.shape)
        cells = grey[:rows * 3, :columns * 3].reshape(rows, 3, columns, 3).swapaxes(1, 2).reshape(-1, 9)
        chosen = cells[rng.choice(len(cells), PATCHES_PER_PHOTO, replace=False)]
        part = pd.DataFrame(np.delete(chosen, 4, axis=1), columns=AROUND)
        parts.append(part.assign(centre=chosen[:, 4]).assign(photo=name)[["photo", *AROUND, "centre"]])
    return pd.concat(parts).iloc[rng.permutation(len(parts) * PATCHES_PER_PHOTO)].reset_index(drop=True)
