"""The real datasets behind the embedded Hub: what each holds, under which licence, and how its table is made.

All come with scikit-learn and statsmodels. Series are served as tables with earlier values beside the
current one, so that a row can be predicted from its own columns. Licences are as those packages state
them; where they only say "with permission", the licence is `other`, and it is the kit's work to refuse it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

ANES = "American National Election Study 1996, as distributed with statsmodels"
PUBLIC, BY, OTHER, UNKNOWN = "public-domain", "cc-by-4.0", "other", None


@dataclass(frozen=True)
class Entry:
    """One dataset: `make` builds its table; licence None leaves the card without one."""

    id: str
    title: str
    licence: str | None
    make: Callable[[], "pd.DataFrame"]
    about: str
    tags: tuple[str, ...] = ()


def load_sklearn(name: str, target: str, names: bool = True) -> "pd.DataFrame":
    """A toy dataset of scikit-learn, its target under a name of its own, classes as words where it has them."""
    import sklearn.datasets as source

    bunch = getattr(source, f"load_{name}")(as_frame=True)
    frame = bunch.data.copy()
    frame.columns = [c.split(" (")[0].replace(" ", "_").replace("/", "_") for c in frame.columns]
    labelled = names and isinstance(bunch.target_names[0], str)
    frame[target] = [str(bunch.target_names[k]) for k in bunch.target] if labelled else bunch.target
    return frame


def load_statsmodels(name: str, recode: dict[str, dict[Any, str]] | None = None) -> "pd.DataFrame":
    """A dataset of statsmodels with snake_case columns; `recode` gives codes the words of its documentation."""
    import importlib

    frame = importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data.copy()
    frame.columns = [str(c).lower().replace(" ", "_") for c in frame.columns]
    for column, words in (recode or {}).items():
        frame[column] = frame[column].map(words)
    whole = [c for c in frame.columns if frame[c].dtype.kind == "f" and (frame[c] % 1 == 0).all()]
    return frame.astype(dict.fromkeys(whole, "int64")).reset_index(drop=True)


def add_lags(frame: "pd.DataFrame", column: str, lags: tuple[int, ...]) -> "pd.DataFrame":
    """Earlier values of a series beside the current one; rows without all of them are left out."""
    earlier = {f"prev_{k}": frame[column].shift(k) for k in lags}
    return frame.assign(**earlier).dropna().reset_index(drop=True)


def load_dated(name: str, column: str, lags: tuple[int, ...]) -> "pd.DataFrame":
    """A series with a date index as year, month, value and earlier values."""
    import importlib

    import pandas as pd

    series = importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data.iloc[:, 0]
    dates = pd.DatetimeIndex(pd.to_datetime(series.index))
    frame = pd.DataFrame({"year": dates.year, "month": dates.month, column: series.interpolate().to_numpy()})
    return add_lags(frame, column, lags)


def load_series(name: str, column: str, lags: tuple[int, ...]) -> "pd.DataFrame":
    frame = load_statsmodels(name)
    return add_lags(frame.rename(columns={frame.columns[1]: column}), column, lags)


def load_elnino() -> "pd.DataFrame":
    """Monthly sea surface temperatures, one row a month instead of one a year."""
    wide = load_statsmodels("elnino")
    months = list(wide.columns[1:])
    frame = wide.melt("year", months, "month", "temperature")
    frame["month"] = frame["month"].map({name: k for k, name in enumerate(months, 1)})
    return add_lags(frame.sort_values(["year", "month"]), "temperature", (1, 2, 12))


def load_fertility() -> "pd.DataFrame":
    """One row a country and year, with the rates of 5, 10 and 20 years before."""
    import pandas as pd

    wide = load_statsmodels("fertility")
    parts = []
    for year in (1980, 1985, 1990, 1995, 2000, 2005, 2010):
        ago = {f"rate_{k}_years_ago": wide[str(year - k)] for k in (5, 10, 20)}
        parts.append(pd.DataFrame({"country": wide["country_name"], "year": year, **ago, "rate": wide[str(year)]}))
    return pd.concat(parts).dropna().reset_index(drop=True)


def load_patches() -> "pd.DataFrame":
    """3 x 3 patches of scikit-learn's two sample photographs: eight grey values around a centre."""
    import numpy as np
    import pandas as pd
    from sklearn.datasets import load_sample_images

    rng, rows = np.random.RandomState(0), []
    photos = [np.asarray(image).mean(axis=2) for image in load_sample_images().images]
    for _ in range(1200):
        photo = int(rng.randint(2))
        top, left = rng.randint(photos[photo].shape[0] - 3), rng.randint(photos[photo].shape[1] - 3)
        values = photos[photo][top:top + 3, left:left + 3].round(1).ravel()
        rows.append([("china", "flower")[photo], *np.delete(values, 4), values[4]])
    return pd.DataFrame(rows, columns=["photo", "nw", "n", "ne", "w", "e", "sw", "s", "se", "centre"])


sm, sk = partial(partial, load_statsmodels), partial(partial, load_sklearn)
MODES = {"mode": {1: "air", 2: "train", 3: "bus", 4: "car"}}
VOTES = {"vote": {0: "clinton", 1: "dole"}}

ENTRIES = (
    Entry("scikit-learn/iris", "Iris flowers", BY, sk("iris", "species"), "Four measures of 150 iris flowers."),
    Entry("scikit-learn/digits", "Handwritten digits", BY, sk("digits", "digit"), "8 x 8 images as 64 grey values."),
    Entry("statsmodels/stackloss", "Stack loss of an ammonia plant", PUBLIC, sm("stackloss"), "21 days of operation."),
    Entry("scikit-learn/wine", "Wine cultivars", BY, sk("wine", "cultivar"), "Chemical analysis of 178 wines."),
    Entry("scikit-learn/breast_cancer", "Breast cancer diagnosis", BY, sk("breast_cancer", "diagnosis"),
          "Thirty measures of cell nuclei from 569 biopsies."),
    Entry("scikit-learn/diabetes", "Diabetes progression", "bsd-3-clause", sk("diabetes", "progression", False),
          "Ten baseline measures of 442 patients and the disease a year later."),
    Entry("scikit-learn/sample_patches", "Patches of two photographs", BY, load_patches, "3 x 3 grey patches."),
    Entry("statsmodels/anes96", "Election survey 1996", PUBLIC, sm("anes96", VOTES), ANES),
    Entry("statsmodels/modechoice", "Travel mode choice", PUBLIC, sm("modechoice", MODES),
          "Four modes of travel offered to each of 210 individuals; `choice` is 1 for the mode that was taken."),
    Entry("statsmodels/randhie", "RAND health insurance experiment", PUBLIC, sm("randhie"), "Visits to doctors."),
    Entry("statsmodels/grunfeld", "Investment of eleven firms", PUBLIC, sm("grunfeld"), "1935 to 1954, yearly."),
    Entry("statsmodels/macrodata", "United States macroeconomy", PUBLIC, sm("macrodata"), "Quarters, 1959 to 2009."),
    Entry("statsmodels/engel", "Food expenditure", PUBLIC, sm("engel"), "Income and food expenditure of households."),
    Entry("statsmodels/strikes", "Duration of strikes", PUBLIC, sm("strikes"), "Duration and industrial production."),
    Entry("statsmodels/statecrime", "Crime by state 2009", PUBLIC, sm("statecrime"), "One row a state."),
    Entry("statsmodels/longley", "Longley's employment data", PUBLIC, sm("longley"), "Sixteen years."),
    Entry("statsmodels/fertility", "Fertility of countries", BY, load_fertility, "World Bank: country and year."),
    Entry("statsmodels/co2", "Atmospheric CO2 at Mauna Loa", PUBLIC,
          partial(load_dated, "co2", "co2", (1, 2, 4, 52)), "Weekly, with values 1, 2, 4 and 52 weeks before."),
    Entry("statsmodels/elec_equip", "Turnover of electrical equipment", PUBLIC,
          partial(load_dated, "elec_equip", "turnover", (1, 2, 12)), "Monthly index of the euro area."),
    Entry("statsmodels/elnino", "Sea surface temperatures", PUBLIC, load_elnino, "Monthly, with earlier months."),
    Entry("statsmodels/nile", "Flow of the Nile", PUBLIC, partial(load_series, "nile", "volume", (1, 2, 3)),
          "Yearly volume at Aswan with the three years before."),
    Entry("statsmodels/sunspots", "Yearly sunspots", PUBLIC,
          partial(load_series, "sunspots", "activity", (1, 2, 9, 10, 11)), "With earlier years."),
    Entry("statsmodels/fair", "Marriage survey", OTHER, sm("fair"), "Included in statsmodels with permission."),
    Entry("statsmodels/ccard", "Credit card expenditure", OTHER, sm("ccard"), "Used there with express permission."),
    Entry("statsmodels/star98", "Education policy in California", OTHER, sm("star98"), "Used with express permission."),
    Entry("statsmodels/spector", "Teaching of economics", OTHER, sm("spector"), "Used with express permission."),
    Entry("statsmodels/cancer", "Breast cancer counts by county", UNKNOWN, sm("cancer"), "Licence not stated."),
    Entry("statsmodels/heart", "Survival after transplants", UNKNOWN, sm("heart"), "Licence not stated."),
    Entry("statsmodels/interest_inflation", "Interest and inflation in Germany", UNKNOWN, sm("interest_inflation"),
          "Licence not stated."),
)
