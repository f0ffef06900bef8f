"""Score predicted numbers: python evaluate.py --submission_file PATH prints {"$metric": value}."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import $function


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


parser = argparse.ArgumentParser()
parser.add_argument("--submission_file", required=True)
answers = pd.read_csv(Path(__file__).resolve().parent / "data" / "answers.csv")
submission = read_submission(parser.parse_args().submission_file, answers)
target = answers.columns[1]
truth = answers[target].to_numpy(float)
guess = pd.to_numeric(submission[target], errors="coerce").to_numpy(float)
if not np.isfinite(guess).all():
    sys.exit(f"{target} must hold a finite number in every row")
score = $score
print(json.dumps({"$metric": float(score)}))
