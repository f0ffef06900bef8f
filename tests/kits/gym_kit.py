"""What tests of episodes share: a small real task, and models that say what a test gives them."""

from collections.abc import Callable
from pathlib import Path

from synthkit.core.llm import Reply
from synthkit.core.params import SandboxParams
from synthkit.gym.task import Task, build_csv_task, write_task
from synthkit.gym.task.config import TaskMeta

SANDBOX = SandboxParams(warm=False)
BASELINE_PY = """import csv
rows = list(csv.DictReader(open("data/test.csv")))
with open("submission.csv", "w") as out:
    print("id,y", *(f"{row['id']},0" for row in rows), sep="\\n", file=out)
"""
EVALUATE_PY = """import argparse, csv, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--submission_file")
truth = csv.DictReader(open(pathlib.Path(__file__).parent / "data/answers.csv"))
said = {row["id"]: row["y"] for row in csv.DictReader(open(parser.parse_args().submission_file))}
hits = [said[row["id"]] == row["y"] for row in truth]
print(json.dumps({"accuracy": sum(hits) / len(hits)}))
"""
WRITE_GOOD = "(echo id,y; for i in $(seq 0 19); do echo $i,$((i % 2)); done) > submission.csv"
META = TaskMeta(metric="accuracy", direction="maximize", task_kind="classification", target="y",
                baseline_public=0.5, baseline_private=0.4)


def table(columns: str, row: str) -> str:
    """A CSV text of 20 rows: `row` is filled with i and y, which is i modulo 2."""
    return "\n".join([columns, *(row.format(i=i, y=i % 2) for i in range(20))]) + "\n"


def make_task(root: Path, *, task_id: str = "parity", evaluate: str = EVALUATE_PY, time_limit_s: int = 300,
              submission: str | None = None) -> Task:
    """The task of telling odd from even; with `submission` the workspace holds one from the start."""
    config, dataset = build_csv_task(task_id, "Parity", "Tell odd from even.", "Numbers.", time_limit_s=time_limit_s,
                                     meta=META)
    files = {
        "baseline.py": BASELINE_PY, "evaluate.py": evaluate, "data/train.csv": table("x,y", "{i},{y}"),
        "data/test.csv": table("id,x", "{i},{i}"), "data/sample_submission.csv": table("id,y", "{i},0"),
        "data/answers.csv": table("id,y", "{i},{y}"),
    }
    if submission is not None:
        files["submission.csv"] = submission
        config.starter_code.append(f"data/{task_id}/submission.csv")
    write_task(root, config, [dataset], META, files)
    return Task.load(root, task_id)


def make_model(*turns: str | Exception) -> tuple[Callable[[list[dict]], Reply], list[list[dict]]]:
    """A model that says what is given, an action, a whole reply ('BAD ...') or an exception, and what it was shown."""
    seen: list[list[dict]] = []

    def model(messages: list[dict]) -> Reply:
        turn = turns[len(seen)]
        seen.append([dict(message) for message in messages])
        if isinstance(turn, Exception):
            raise turn
        text = turn if turn.startswith("BAD") else f"DISCUSSION\nI go on.\n```\n{turn}\n```"
        return Reply(text=text, tokens_in=10, tokens_out=2, usd=0.5, cached=False)

    return model, seen
