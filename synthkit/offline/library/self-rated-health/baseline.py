"""Baseline: a shallow tree on chronic diseases and limitations."""

import pandas as pd
from sklearn.tree import DecisionTreeClassifier

COLUMNS = ["disea", "physlm"]
train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
tree = DecisionTreeClassifier(class_weight="balanced", max_depth=3, random_state=0)
tree.fit(train[COLUMNS], train["hlthg"])
test["hlthg"] = tree.predict(test[COLUMNS])
test[["id", "hlthg"]].to_csv("submission.csv", index=False)
