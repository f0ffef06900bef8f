"""Baseline: a straight line through blood pressure and age."""

import pandas as pd
from sklearn.linear_model import LinearRegression

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
features = ["age", "bp"]
model = LinearRegression()
model.fit(train[features], train["progression"])
answer = pd.DataFrame({"id": test["id"], "progression": model.predict(test[features])})
answer.to_csv("submission.csv", index=False)
