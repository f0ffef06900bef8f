"""Baseline: the geometric mean of the visits of people in good or excellent health and of the others."""

import numpy as np
import pandas as pd

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
unwell = train["hlthf"] + train["hlthp"] > 0
means = np.expm1(np.log1p(train["mdvis"]).groupby(unwell).mean())
test["mdvis"] = (test["hlthf"] + test["hlthp"] > 0).map(means)
test[["id", "mdvis"]].to_csv("submission.csv", index=False)
