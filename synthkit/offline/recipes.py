"""The solution scripts that the scripted teacher's agent policy knows how to write.

Each recipe is a general script: it reads the target's name from the sample submission and encodes whatever columns it
finds, so that the same lines fit any table. `MISTAKES` are the slips that the policy makes on purpose in some rollouts;
the error message then makes it write the script again.
"""

import random
from dataclasses import dataclass

SCRIPT = '''import pandas as pd
from {module} import {name} as Model

model = Model(random_state={seed})
train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
target = pd.read_csv("data/sample_submission.csv").columns[1]
cols = [c for c in test.columns if c != "id"]
x = pd.get_dummies(pd.concat([train[cols], test[cols]])).fillna({fill})
model.fit(x[:len(train)], train[target])
pred = model.predict(x[len(train):])
pd.DataFrame({{"id": test["id"], target: pred}}).to_csv("submission.csv", index=False)
print("wrote", len(pred), "rows")'''

FAMILIES = {"hgb": "HistGradientBoosting", "rf": "RandomForest", "et": "ExtraTrees"}


@dataclass(frozen=True)
class Mistake:
    """A slip: what stands wrong in the script, what was meant, and the name it goes by."""

    name: str
    right: str
    wrong: str


MISTAKES = (
    Mistake("file path", '"data/train.csv"', '"train.csv"'),
    Mistake("undefined name", "test[cols]", "tests[cols]"),
    Mistake("wrong method", ".fit(x", ".train(x"),
    Mistake("misspelt function", "pd.get_dummies", "pd.get_dummy"),
    Mistake("missing id", '{"id": test["id"], target: pred}', "{target: pred}"),
)


def order_recipes(rng: random.Random) -> list[str]:
    """The order in which a rollout tries its recipes: three tree ensembles, shuffled, then a linear model."""
    return [*rng.sample(["hgb", "rf", "et"], 3), "linear"]


def name_model(recipe: str, kind: str) -> str:
    """The scikit-learn class behind a recipe, for a task kind ('classification' or 'regression')."""
    if recipe == "linear":
        return "RidgeClassifier" if kind == "classification" else "Ridge"
    return FAMILIES[recipe] + ("Classifier" if kind == "classification" else "Regressor")


def write_script(recipe: str, kind: str, rng: random.Random) -> str:
    """A whole solution script for a task kind; every model has its defaults.

    `rng` draws the model's seed, and whether gaps in the table are filled with 0 or -1.
    """
    module = "sklearn.linear_model" if recipe == "linear" else "sklearn.ensemble"
    name = name_model(recipe, kind)
    return SCRIPT.format(module=module, name=name, seed=rng.randrange(100), fill=rng.choice([0, -1]))
