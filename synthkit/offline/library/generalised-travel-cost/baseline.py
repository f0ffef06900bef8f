"""Baseline: a straight line through the in-vehicle cost."""

import numpy as np
import pandas as pd

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
line = np.polyfit(train["invc"], train["gc"], 1)
submission = test[["id"]].copy()
submission["gc"] = np.polyval(line, test["invc"])
submission.to_csv("submission.csv", index=False)
