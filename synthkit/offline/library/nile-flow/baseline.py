"""Baseline: the mean of all years, moved a little towards the year before."""

import pandas as pd

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
mean = train["volume"].mean()
test["volume"] = 0.85 * mean + 0.15 * test["prev_1"]
test[["id", "volume"]].to_csv("submission.csv", index=False)
