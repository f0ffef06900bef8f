"""Score predicted classes: python evaluate.py --submission_file PATH prints {"$metric": value}."""

import argparse
import json
import sys
import warnings
from pathlib import Path

import pandas as pd
from sklearn.metrics import $function

warnings.simplefilter("ignore")  # Whoever reads the output may read both streams as one.


def read_submission(path, answers):
    try:
        submission = pd.read_csv(path)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot read {path}: {error}")
    if list(submission.columns) != list(answers.columns):
        sys.exit(f"columns are {list(submission.columns)}, expected {list(answers.columns)}")
    if submission["id"].duplicated().any() or set(submission["id"]) != set(answers["id"]):
        sys.exit(f"ids must be the {len(answers)} ids of the sample submission, each once")
    return submission.set_index("id").loc[answers["id"]]


def read_labels(column, numeric):
    if column.isna().any():
        sys.exit(f"{column.name} has missing values")
    if not numeric:
        return column.astype(str)
    labels = pd.to_numeric(column, errors="coerce")
    if not (labels % 1 == 0).all():
        sys.exit(f"{column.name} must hold class labels, which are whole numbers here")
    return labels.astype(int)


parser = argparse.ArgumentParser()
parser.add_argument("--submission_file", required=True)
answers = pd.read_csv(Path(__file__).resolve().parent / "data" / "answers.csv")
submission = read_submission(parser.parse_args().submission_file, answers)
target = answers.columns[1]
numeric = pd.api.types.is_numeric_dtype(answers[target])
truth = read_labels(answers[target], numeric)
guess = read_labels(submission[target], numeric)
score = $score
print(json.dumps({"$metric": float(score)}))
