"""Baseline: activity stays what it was 13 months before."""

import pandas as pd

test = pd.read_csv("data/test.csv")
answer = pd.DataFrame({"id": test["id"], "activity": test["prev_13"]})
answer.to_csv("submission.csv", index=False)
