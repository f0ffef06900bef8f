"""Baseline: halfway between the mean of all years and the year before."""

import pandas as pd

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
mean = train["volume"].mean()
test["volume"] = 0.75 * mean + 0.25 * test["prev_1"]
test[["id", "volume"]].to_csv("submission.csv", index=False)
