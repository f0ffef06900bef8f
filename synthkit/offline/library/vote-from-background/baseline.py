"""Baseline: the vote of the one respondent most alike in age and ideology."""

import pandas as pd
from sklearn.neighbors import KNeighborsClassifier

COLUMNS = ["age", "selflr"]
train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
neighbours = KNeighborsClassifier(n_neighbors=1).fit(train[COLUMNS], train["vote"])
test["vote"] = neighbours.predict(test[COLUMNS])
test[["id", "vote"]].to_csv("submission.csv", index=False)
