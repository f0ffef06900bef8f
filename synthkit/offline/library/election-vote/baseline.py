"""Baseline: the vote of the majority among those who placed Clinton alike."""

import pandas as pd

train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
common = train["vote"].mode()[0]
by_place = train.groupby("clinlr")["vote"].agg(lambda votes: votes.mode()[0])
vote = test["clinlr"].map(by_place).fillna(common)
pd.DataFrame({"id": test["id"], "vote": vote}).to_csv("submission.csv", index=False)
