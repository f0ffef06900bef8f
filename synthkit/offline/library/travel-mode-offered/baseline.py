"""Baseline: the class whose mean cost is nearest."""

import pandas as pd
from sklearn.neighbors import NearestCentroid

COLUMNS = ["invc", "gc"]
train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
model = NearestCentroid().fit(train[COLUMNS], train["mode"])
pd.DataFrame({"id": test["id"], "mode": model.predict(test[COLUMNS])}).to_csv("submission.csv", index=False)
