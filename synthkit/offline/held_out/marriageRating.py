"""Baseline: the mean rating of all respondents."""

import pandas as pd

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
answer = pd.DataFrame({"id": test["id"], "rate_marriage": train["rate_marriage"].mean()})
answer.to_csv("submission.csv", index=False)
