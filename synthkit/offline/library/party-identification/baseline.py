"""Baseline: a tree of depth one on the respondent's own placement."""

import pandas as pd
from sklearn.tree import DecisionTreeClassifier

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
stump = DecisionTreeClassifier(max_depth=1, random_state=0).fit(train[["selflr"]], train["pid"])
pd.DataFrame({"id": test["id"], "pid": stump.predict(test[["selflr"]])}).to_csv("submission.csv", index=False)
