"""A small checkout in MLGym's layout, written for these tests: one task for each kind of submission."""

import json
from pathlib import Path

import yaml

PLAY = """import json
from strategy import choose
from target import reply

history = []
for _ in range(50):
    history.append((choose(history), reply(history)))
print(json.dumps({"Score": sum(mine == theirs for mine, theirs in history) / len(history)}))
"""
MODEL = """import argparse, json, pathlib, yaml
parser = argparse.ArgumentParser()
parser.add_argument("--config_fname")
config = yaml.safe_load(pathlib.Path(parser.parse_args().config_fname).read_text())
weights = json.loads(pathlib.Path(config["weights"]).read_text())
print("loading took 3 s")
print(json.dumps({"Reward Mean": sum(weights)}))
print("{not the result")
"""
TABLE = """import argparse, csv, json, sys
parser = argparse.ArgumentParser()
parser.add_argument("--submission_file")
said = [row["y"] for row in csv.DictReader(open(parser.parse_args().submission_file))]
truth = [row["y"] for row in csv.DictReader(open("data/answer.csv"))]
print("a warning", file=sys.stderr)
print(json.dumps({"r2": sum(a == b for a, b in zip(said, truth)) / len(truth)}))
"""
LANGUAGE_MODEL = """import json, os
print("step 1 of 1")
print(json.dumps({"val_loss": float(open("loss.txt").read()), "rank": int(os.environ["RANK"])}))
"""
TASKS = {
    "battleOfSexes": ("PythonSubmissionTasks", {
        "evaluate.py": PLAY, "strategy.py": "def choose(history):\n    return 1\n",
        "target.py": "def reply(history):\n    return len(history) % 2\n"}),
    "walker": ("ModelSubmissionTasks", {"evaluate.py": MODEL, "src/config.yaml": "weights: none.json\n"}),
    "regressionKaggleHousePrice": ("CSVSubmissionTasks", {
        "evaluate.py": TABLE, "baseline.py": "open('submission.csv', 'w').write('id,y\\n1,a\\n2,c\\n')\n"}),
    "speech": ("LMSubmissionTasks", {"evaluate.py": LANGUAGE_MODEL}),
}


def write_checkout(root: Path) -> Path:
    """Write the checkout's tasks, one with a dataset, a baseline and an unknown key; returns the root."""
    for name, (kind, files) in TASKS.items():
        for path, text in files.items():
            (root / "data" / name / path).parent.mkdir(parents=True, exist_ok=True)
            (root / "data" / name / path).write_text(text)
        write_yaml(root / f"configs/tasks/{name}.yaml", {
            "id": name, "name": name, "description": "Do it.\n{dataset_docs}", "task_entrypoint": kind,
            "training_timeout": 300, "starter_code": sorted({f"data/{name}/{path.split('/')[0]}" for path in files}),
            "evaluation_paths": ["evaluate.py"], "evaluation_read_only": True})
    house = root / "configs/tasks/regressionKaggleHousePrice.yaml"
    write_yaml(house, yaml.safe_load(house.read_text()) | {
        "dataset_configs": ["datasets/house.yaml"], "baseline_paths": ["baseline.py"], "invented_key": 1})
    write_yaml(root / "configs/datasets/house.yaml", {
        "name": "house", "description": "Two {houses}.", "data_path": "data/house", "is_local": True})
    (root / "data/house").mkdir()
    (root / "data/house/answer.csv").write_text("id,y\n1,a\n2,b\n")
    (root / "data/house/train.csv").write_text("id,y\n3,a\n")
    return root


def write_yaml(path: Path, values: dict) -> None:
    """Write keys as a YAML file; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(json.loads(json.dumps(values))))
