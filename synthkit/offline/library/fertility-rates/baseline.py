"""Baseline: nothing has changed in ten years."""

import pandas as pd

test = pd.read_csv("data/test.csv")
submission = test[["id"]].assign(rate=test["rate_10_years_ago"])
submission.to_csv("submission.csv", index=False)
