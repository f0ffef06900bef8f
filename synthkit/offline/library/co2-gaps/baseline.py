"""Baseline: a straight line through the years, without the season."""

import numpy as np
import pandas as pd

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
line = np.polyfit(train["year"], train["co2"], 1)
test["co2"] = np.polyval(line, test["year"])
test[["id", "co2"]].to_csv("submission.csv", index=False)
