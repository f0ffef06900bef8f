"""A generic solution of any task: a few models on all columns. Run as a script in the sandbox, never imported.

Writes reference_<model>.csv for each. Stage 04 takes the best of them as proof that a task's baseline can be beaten.
"""

import warnings

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MAX_LEVELS = 40
SIDE = 12  # pixels
MIN_SPACES = 2
DIRECTIONS = 40
CLASSIFIERS = {
    "boosting": HistGradientBoostingClassifier(max_iter=60, random_state=0),
    "trees": ExtraTreesClassifier(200, min_samples_leaf=2, class_weight="balanced", random_state=0),
    "linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, class_weight="balanced")),
}
REGRESSORS = {
    "boosting": HistGradientBoostingRegressor(max_iter=100, learning_rate=0.08, random_state=0),
    "trees": ExtraTreesRegressor(200, min_samples_leaf=2, random_state=0),
    "linear": make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))),
    # The mean of skewed numbers is a poor answer where single misses do not count by their squares.
    "median": HistGradientBoostingRegressor(loss="absolute_error", max_iter=100, learning_rate=0.08, random_state=0),
    "log": TransformedTargetRegressor(HistGradientBoostingRegressor(max_iter=60, random_state=0),
                                      func=np.log1p, inverse_func=np.expm1),
}


def encode_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers with the median for what is missing; texts one-hot, or by their rank when they have many values.

    Pictures are small grey pixels, and what reads like sentences is a few directions of its words' weights.
    """
    columns: dict[str, pd.Series | np.ndarray] = {}
    for name in frame.columns:
        values = frame[name]
        if pd.api.types.is_numeric_dtype(values):
            columns[name] = values.astype(float).fillna(values.median())
        elif str(values.iloc[0]).startswith("images/"):
            columns |= read_pixels(name, values)
        elif values.nunique() > MAX_LEVELS and values.astype(str).str.count(r"\s").mean() >= MIN_SPACES:
            columns |= embed_text(name, values)
        elif values.nunique() > MAX_LEVELS:
            columns[name] = values.rank(method="dense").fillna(0)
        else:
            levels = sorted(values.dropna().unique())
            columns |= {f"{name}={level}": (values == level).astype(float) for level in levels}
    return pd.DataFrame(columns).fillna(0.0)


def read_pixels(name: str, paths: pd.Series) -> dict[str, np.ndarray]:
    """Columns of grey values, SIDE x SIDE for each picture; `paths` are relative to data/."""
    from PIL import Image

    pixels = np.array([np.asarray(Image.open(f"data/{path}").convert("L").resize((SIDE, SIDE)), float).ravel()
                       for path in paths])
    return {f"{name}_{at}": pixels[:, at] for at in range(SIDE * SIDE)}


def embed_text(name: str, values: pd.Series) -> dict[str, np.ndarray]:
    """Columns of the texts' places in the main directions of their words' TF-IDF weights; none without enough words."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        weights = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=20_000).fit_transform(values.fillna(""))
    except ValueError:  # No word stands in two rows.
        return {}
    if weights.shape[1] < 2:
        return {}
    places = TruncatedSVD(min(DIRECTIONS, weights.shape[1] - 1), random_state=0).fit_transform(weights)
    return {f"{name}_{at}": places[:, at] for at in range(places.shape[1])}


def main(kind: str) -> None:
    """Fit the models of a task kind on data/train.csv, and write what each predicts for data/test.csv."""
    warnings.simplefilter("ignore")
    train, test = pd.read_csv("data/train.csv"), pd.read_csv("data/test.csv")
    target = pd.read_csv("data/sample_submission.csv").columns[1]
    features = [name for name in test.columns if name != "id"]
    both = encode_columns(pd.concat([train[features], test[features]], ignore_index=True))
    models = dict(CLASSIFIERS if kind == "classification" else REGRESSORS)
    if kind == "regression" and train[target].min() < 0:
        del models["log"]
    for name, model in models.items():
        model.fit(both.iloc[:len(train)].to_numpy(), train[target])
        answer = model.predict(both.iloc[len(train):].to_numpy())
        if name in ("median", "log") and (train[target] % 1 == 0).all():
            answer = np.rint(answer)
        pd.DataFrame({"id": test["id"], target: answer}).to_csv(f"reference_{name}.csv", index=False)


if __name__ == "__main__":
    import sys

    main(sys.argv[1])
