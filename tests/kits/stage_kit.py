"""One small task from topic to draft, for tests of the stages: real data, a teacher on loopback, good and bad code."""

from pathlib import Path
from typing import Any

from synthkit.core.files import write_records
from synthkit.core.opening import open_stage
from synthkit.core.stage import Stage
from synthkit.records import Topic
from synthkit.stages.codegen import stage as codegen
from synthkit.stages.datasets import stage as datasets

BASELINE = """import pandas as pd
from sklearn.tree import DecisionTreeClassifier

train, test = pd.read_csv("data/train.csv"), pd.read_csv("data/test.csv")
model = DecisionTreeClassifier(max_depth=1, random_state=0).fit(train[["sepal_width"]], train["species"])
pd.DataFrame({"id": test["id"], "species": model.predict(test[["sepal_width"]])}).to_csv("submission.csv", index=False)
"""
EVALUATE = """import argparse
import json
import sys
from pathlib import Path

import pandas as pd
from sklearn.metrics import accuracy_score

parser = argparse.ArgumentParser()
parser.add_argument("--submission_file", required=True)
answers = pd.read_csv(Path(__file__).resolve().parent / "data" / "answers.csv")
guess = pd.read_csv(parser.parse_args().submission_file)
if list(guess.columns) != list(answers.columns) or sorted(guess["id"]) != sorted(answers["id"]):
    sys.exit("wrong columns or ids")
if guess.isna().any().any():
    sys.exit("missing values")
both = answers.merge(guess, on="id")
print(json.dumps({"accuracy": accuracy_score(both["species_x"], both["species_y"])}))
"""
CODE = {"description": "Name the species of an iris from three measures.", "baseline_py": BASELINE,
        "evaluate_py": EVALUATE}
PROPOSAL = {"dataset_id": "scikit-learn/iris", "search_words": ["iris"], "reason": "it fits"}
PLAN = {"target": "species", "task_kind": "classification", "metric": "accuracy", "split": "stratified",
        "features": ["sepal_length", "sepal_width", "petal_length"], "group_or_time": None,
        "title": "Iris species", "description": "One row is a flower; predict its species."}
ANSWERS = {"DatasetProposal": lambda messages: PROPOSAL, "TaskPlan": lambda messages: PLAN,
           "TaskCode": lambda messages: CODE}


def make_topics(n: int = 1) -> list[Topic]:
    return [Topic(id=f"t{k:03d}-flowers", title=f"Flowers {k}", summary="Which flower is it?", modality="table",
                  area="tabular classification", task_type="multiclass classification", difficulty="easy")
            for k in range(1, n + 1)]


def open_with(name: str, run_dir: Path, teacher: Any, **values: Any) -> Stage:
    return open_stage(name, {"run_dir": str(run_dir), "teacher": teacher.params, **values})


def finish_empty(run_dir: Path, *names: str) -> None:
    """Stages of a run as finished with nothing in them, for a test of what comes after."""
    for name in names:
        open_stage(name, {"run_dir": str(run_dir)}).finish(0, 0, {})


def finish_topics(run_dir: Path, teacher: Any, n: int = 1) -> None:
    stage = open_with("01_topics", run_dir, teacher)
    write_records(stage.dir / "topics.jsonl", make_topics(n))
    stage.finish(n, n, {})


def finish_datasets(run_dir: Path, teacher: Any, n: int = 1) -> Stage:
    finish_topics(run_dir, teacher, n)
    stage = open_with("02_datasets", run_dir, teacher, benchmark="none", max_near_duplicates=9)
    datasets.run(stage)
    datasets.finish(stage)
    return stage


def finish_drafts(run_dir: Path, teacher: Any, n: int = 1, **values: Any) -> Stage:
    finish_datasets(run_dir, teacher, n)
    stage = open_with("03_codegen", run_dir, teacher, **values)
    codegen.run(stage)
    codegen.finish(stage)
    return stage
