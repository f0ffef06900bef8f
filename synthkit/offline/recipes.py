"""The solution scripts that the scripted teacher's agent policy knows how to write.

Each recipe is a general script: it reads the target's name from the sample submission and encodes
whatever columns it finds, so that the same lines fit any table. `MISTAKES` are the slips the policy
makes on purpose in some rollouts; an error message then makes it write the script again.
"""

import random
from dataclasses import dataclass

SCRIPT = '''import pandas as pd
{imports}

model = {build}
train = pd.read_csv("data/train.csv")
test = pd.read_csv("data/test.csv")
target = pd.read_csv("data/sample_submission.csv").columns[1]
cols = [c for c in test.columns if c != "id"]
x = pd.get_dummies(pd.concat([train[cols], test[cols]])).fillna({fill})
model.fit(x[:len(train)], train[target])
pred = model.predict(x[len(train):])
pd.DataFrame({{"id": test["id"], target: pred}}).to_csv("submission.csv", index=False)
print("wrote", len(pred), "rows")'''

PIPELINE = "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import StandardScaler\n"
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
    """The order in which a rollout tries its recipes: three tree ensembles, then a linear model."""
    return [*rng.sample(["hgb", "rf", "et"], 3), "linear"]


def name_model(recipe: str, kind: str) -> str:
    """The scikit-learn class behind a recipe, for a task kind ('classification' or 'regression')."""
    suffix = "Classifier" if kind == "classification" else "Regressor"
    if recipe == "linear":
        return "LogisticRegression" if kind == "classification" else "Ridge"
    return FAMILIES[recipe] + suffix


def write_script(recipe: str, kind: str, rng: random.Random) -> str:
    """A whole solution script for a task kind."""
    name = name_model(recipe, kind)
    model = f"{name}({choose_options(recipe, kind, rng)})"
    linear = recipe == "linear"
    module = f"{PIPELINE}from sklearn.linear_model" if linear else "from sklearn.ensemble"
    return SCRIPT.format(
        imports=f"{module} import {name}",
        build=f"make_pipeline(StandardScaler(), {model})" if linear else model,
        fill=rng.choice([0, -1]),
    )


def choose_options(recipe: str, kind: str, rng: random.Random) -> str:
    """Hyper-parameters by seeded choice."""
    if recipe == "linear":
        return "max_iter=1000" if kind == "classification" else f"alpha={rng.choice([1.0, 10.0])}"
    seed = f"random_state={rng.randrange(10)}"
    if recipe == "hgb":
        return f"learning_rate={rng.choice([0.05, 0.1])}, max_iter={rng.choice([40, 60])}, {seed}"
    return f"n_estimators={rng.choice([100, 200])}, min_samples_leaf={rng.choice([1, 2, 3])}, {seed}"
