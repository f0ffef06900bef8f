"""Baseline: a linear model on cost and income."""

import pandas as pd
from sklearn.linear_model import LinearRegression

COLUMNS = ["gc", "hinc"]
train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
model = LinearRegression().fit(train[COLUMNS], train["psize"])
pd.DataFrame({"id": test["id"], "psize": model.predict(test[COLUMNS])}).to_csv("submission.csv", index=False)
