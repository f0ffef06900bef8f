"""The files of a task: train, test, answers and a sample submission, and one PNG file for each picture.

Test labels go to answers.csv only.
"""

from pathlib import Path

import pandas as pd

from synthkit.core.errors import HubError
from synthkit.stages.common.images import holds_pictures, write_pictures
from synthkit.stages.datasets.table import ID


def write_files(folder: Path, train: pd.DataFrame, test: pd.DataFrame, kind: str) -> None:
    """train.csv, test.csv (with ids, without the target), answers.csv, and sample_submission.csv with a trivial answer.

    The trivial answer is the commonest class or the mean of the training rows. A picture is a file of its own, and its
    path, relative to the folder, stands in the table.
    """
    target = str(train.columns[-1])
    folder.mkdir(parents=True, exist_ok=True)
    train, test = (place_pictures(frame, folder, name) for frame, name in ((train, "train"), (test, "test")))
    ids = pd.Series(range(len(test)), name=ID)
    features = test.drop(columns=target).reset_index(drop=True)
    answers = pd.DataFrame({ID: ids, target: test[target].to_numpy()})
    tables = {
        "train": train, "test": pd.concat([ids, features], axis=1), "answers": answers,
        "sample_submission": pd.DataFrame({ID: ids, target: trivial_answer(train[target], kind)}),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        check_reading(pd.read_csv(folder / f"{name}.csv"), table, target)


def check_reading(read: pd.DataFrame, table: pd.DataFrame, target: str) -> None:
    """A table has to be the same to a solver that reads it: a class that is called NA would be missing there."""
    if list(read.columns) != [str(name) for name in table.columns] or len(read) != len(table):
        raise HubError("no_data", "its rows or columns do not survive being written as CSV")
    if target in read.columns and read[target].isna().any():
        lost = table[target][read[target].isna().to_numpy()].iloc[0]
        raise HubError("no_usable_target", f"the value {lost!r} of {target} reads as a missing one in CSV")


def place_pictures(frame: pd.DataFrame, folder: Path, split: str) -> pd.DataFrame:
    """Write pictures below the folder and put their paths in the table. Raises HubError for two columns of them."""
    pictures = [name for name in frame.columns if holds_pictures(frame[name])]
    if len(pictures) > 1:
        raise HubError("no_features", f"a task can show one column of pictures, not {', '.join(pictures)}")
    return frame.assign(**{name: write_pictures(frame[name], folder, split) for name in pictures})


def trivial_answer(target: pd.Series, kind: str) -> object:
    """The answer without thought: the mean of the training labels, or their commonest class."""
    if kind == "regression":
        return float(f"{target.mean():.6g}")
    return target.mode().iloc[0]
