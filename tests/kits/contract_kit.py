"""Tasks in MLGym's layout for the contract tests, and the environments that play them. All texts are their own."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from synthkit.core.params import SandboxParams
from synthkit.gym.environment import Environment
from synthkit.gym.task import Task

SANDBOX = SandboxParams(backend="bwrap" if shutil.which("bwrap") else "process", warm=False,
                        output_kb=64)
CONFINED = SANDBOX.backend == "bwrap"
WORKSPACE = "/home/agent/workspace"
LABELS = "id,y\n1,a\n2,b\n3,a\n4,b\n"
PERFECT = f"printf '{LABELS}' > submission.csv".replace("\n", "\\n")
HALF = PERFECT.replace(",b", ",a")

EVALUATE = """import argparse, csv, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--submission_file")
said = {row["id"]: row["y"] for row in csv.DictReader(open(parser.parse_args().submission_file))}
truth = list(csv.DictReader(open(pathlib.Path(__file__).parent / "data/labels.csv")))
print(json.dumps({"accuracy": sum(said[row["id"]] == row["y"] for row in truth) / len(truth)}))
"""
BASELINE = """import pathlib, sys
assert sys.argv[1:] == [] and pathlib.Path("data/labels.csv").parent.is_dir()
pathlib.Path("submission.csv").write_text("id,y\\n1,a\\n2,c\\n3,c\\n4,c\\n")
pathlib.Path("left_over.txt").write_text("by the baseline")
"""
DUEL = """import json
from player import move
from rival import answer
rounds = [(move(n), answer(n)) for n in range(20)]
print(json.dumps({"wins": sum(mine == theirs for mine, theirs in rounds) / len(rounds)}))
"""
TASK_KEYS = {"id": "guess", "name": "Guess", "description": "Guess y."}
PRINT_SCORE = "import json\nprint(json.dumps({'score': 1}))\n"


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    """Write keys as a YAML file; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Write texts by their paths below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def write_task(root: Path, files: dict[str, str], **keys: object) -> Path:
    """A task file with the given keys, and files below data/<id>/; returns the root."""
    values = {**TASK_KEYS, **keys}
    write_yaml(root / f"configs/tasks/{values['id']}.yaml", values)
    write_files(root / f"data/{values['id']}", files)
    return root


def write_table_task(root: Path, evaluate: str = EVALUATE, **keys: object) -> Path:
    """Four rows to label. Labels lie in the dataset, as in MLGym's tables; `keys` replace the task file's."""
    write_yaml(root / "configs/datasets/rows.yaml",
               {"name": "rows", "description": "Four rows.", "data_path": "data/rows", "is_local": True})
    write_files(root / "data/rows", {"labels.csv": LABELS, "train.csv": "id,y\n9,a\n"})
    return write_task(root, {"evaluate.py": evaluate, "baseline.py": BASELINE}, **{
        "dataset_configs": ["datasets/rows.yaml"], "training_timeout": 300, "evaluation_paths": ["evaluate.py"],
        "starter_code": ["data/guess/evaluate.py", "data/guess/baseline.py"], "evaluation_read_only": True,
        "baseline_paths": ["baseline.py"], "baseline_scores": [{"accuracy": 0.25}]} | keys)


def write_duel_task(root: Path, evaluate: str = DUEL, **keys: object) -> Path:
    """A player (the agent's) meets a rival (to be named fixed): 0.5 wins as it comes, 1.0 at best."""
    files = {"evaluate.py": evaluate, "player.py": "def move(n):\n    return 1\n",
             "rival.py": "def answer(n):\n    return n % 2\n"}
    return write_task(root, files, **{
        "id": "duel", "task_entrypoint": "PythonSubmissionTasks", "training_timeout": 300,
        "starter_code": [f"data/duel/{name}" for name in files], "evaluation_paths": ["evaluate.py"],
        "baseline_scores": [{"wins": 0.5}], "evaluation_read_only": True} | keys)


def play(task: Task, *actions: str, max_steps: int = 30, **options: Any) -> tuple[Environment, list[str]]:
    """An episode of these actions; the environment (closed) and what each action brought."""
    with Environment(task, SANDBOX, max_steps=max_steps, **options) as env:
        env.reset()
        seen = [env.step(action)[0] for action in actions]
    return env, seen


def load_table(root: Path, evaluate: str = EVALUATE, **keys: object) -> Task:
    """The table task, read with its labels named as secret."""
    return Task.load(write_table_task(root, evaluate, **keys), "guess", secret_files=["labels.csv"])


def load_duel(root: Path, evaluate: str = DUEL, **keys: object) -> Task:
    """The task of the duel, read with the rival named as fixed."""
    return Task.load(write_duel_task(root, evaluate, **keys), "duel", fixed_files=["rival.py"])


def print_metrics(**metrics: float) -> str:
    """An evaluation script that prints these metrics whatever was handed in."""
    return f"print({json.dumps(json.dumps(metrics))})\n"
