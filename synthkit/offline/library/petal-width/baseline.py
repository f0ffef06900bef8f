"""Baseline: a straight line through the sepal length."""

import numpy as np
import pandas as pd

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
slope, intercept = np.polyfit(train["sepal_length"], train["petal_width"], 1)
test["petal_width"] = slope * test["sepal_length"] + intercept
test[["id", "petal_width"]].to_csv("submission.csv", index=False)
