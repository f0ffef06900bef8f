"""Baseline: a straight line through the share of single parents."""

import numpy as np
import pandas as pd

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
line = np.polyfit(train["single"], train["violent"], 1)
test["violent"] = np.polyval(line, test["single"])
test[["id", "violent"]].to_csv("submission.csv", index=False)
