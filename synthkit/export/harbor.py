"""Tasks as Harbor task folders (task.toml, schema 1.4), with labels and evaluation in tests/ only.

Harbor builds environment/, lets an agent work in /workspace, then copies tests/ to /tests, runs /tests/test.sh and
reads /logs/verifier/reward.json. There the reward is the improvement over the baseline in shares of the way to the
perfect score, so that 0 is the baseline and 1 the optimum; a submission that cannot be scored gets -1.
Source: Harbor 0.25 (harbor/models/task/config.py, harbor/verifier/verifier.py).
"""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

from synthkit.export.selection import require_empty, shorten
from synthkit.gym.scoring.in_sandbox import GENERIC_MODELS
from synthkit.gym.task import SOLUTION, Task

WORKDIR = "/workspace"
ORGANISATION = "synthkit"
LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "pillow")
FAILED = -1.0
REFERENCE = "reference.py"  # What the script of the generic models is called in an export.
AGENT_TIMEOUT_S = 3600.0

TEST_SH = """#!/bin/bash
# Scores what the agent left; the reward is written whatever happens.
mkdir -p /logs/verifier
python /tests/verify.py
"""
# What beat the baseline when the task was verified: a generic model, or the teacher's own script.
SOLVE_OWN_SH = """#!/bin/bash
set -e
cd {workdir}
python /solution/solution.py
"""
SOLVE_SH = """#!/bin/bash
set -e
cd {workdir}
python /solution/{reference} {kind}
mv reference_{model}.csv submission.csv
rm reference_*.csv
"""
VERIFY = '''"""Writes reward.json: 0 is the baseline's score, 1 a perfect one, {failed} says that there is none."""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile

SUBMISSION = "{workdir}/submission.csv"
METRIC, BASELINE, PERFECT, LIMIT_S = {metric!r}, {baseline!r}, {perfect!r}, {limit!r}


def evaluate():
    """The metrics of the submission, scored apart from the agent's folder with nothing of its environment."""
    if os.path.islink(SUBMISSION) or not os.path.isfile(SUBMISSION):
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "submission.csv")
        shutil.copyfile(SUBMISSION, copy)
        command = [sys.executable, "-E", "/tests/evaluate.py", "--submission_file", copy]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return None
    try:
        score = json.loads(done.stdout)[METRIC] if done.returncode == 0 else None
        return float(score) if math.isfinite(score) else None
    except (ValueError, KeyError, TypeError):
        return None


score = evaluate()
reward = {failed} if score is None else (score - BASELINE) / (PERFECT - BASELINE)
rewards = {{"reward": reward}} | ({{}} if score is None else {{"score": score}})
with open("/logs/verifier/reward.json", "w") as file:
    json.dump(rewards, file)
'''


def export_harbor(tasks: list[Task], out: Path, baselines: dict[str, float]) -> list[Path]:
    """Write a folder for each task; `baselines` are scores on all test rows by task id.

    Raises TaskError when `out` is not empty.
    """
    require_empty(out)
    return [write_task(task, out / task.id, baselines[task.id]) for task in tasks]


def write_task(task: Task, folder: Path, baseline: float) -> Path:
    """Write one task's folder and return it: environment/ with the agent's files, tests/ with labels and evaluation.

    solution/ holds what beat the baseline when the task was verified.
    """
    secret = {name: path for name, path in task.all_files().items() if task.is_secret(name)}
    script = task.config.evaluation_paths[0]
    copy_files(task.public_files(), folder / "environment" / "workspace")
    copy_files(secret | {script: task.all_files()[script]}, folder / "tests")
    own = task.root / "data" / task.id / SOLUTION
    copy_files({own.name: own} if own.exists() else {REFERENCE: GENERIC_MODELS}, folder / "solution")
    limit = float(task.config.training_timeout or AGENT_TIMEOUT_S)
    perfect = task.meta.perfect_score
    verify = VERIFY.format(workdir=WORKDIR, metric=task.metric, baseline=baseline, perfect=perfect, limit=limit,
                           failed=FAILED)
    texts = {
        "task.toml": build_config(task, limit), "instruction.md": build_instruction(task, baseline),
        "environment/Dockerfile": build_dockerfile(), "tests/test.sh": TEST_SH, "tests/verify.py": verify,
        "solution/solve.sh": (SOLVE_OWN_SH if own.exists() else SOLVE_SH).format(
            workdir=WORKDIR, reference=REFERENCE, kind=task.meta.task_kind, model=task.meta.reference_model),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("tests/test.sh", "solution/solve.sh"):
        (folder / name).chmod(0o755)
    return folder


def copy_files(files: dict[str, Path], folder: Path) -> None:
    """Copy files to the paths below `folder` that they are named by."""
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def build_config(task: Task, limit_s: float) -> str:
    """The content of task.toml; `limit_s` is how long an evaluation may take."""
    meta = task.meta
    sources = {"dataset": meta.dataset_id, "revision": meta.dataset_revision, "licence": meta.licence,
               "citation": meta.citation, "metric": task.metric, "direction": task.direction,
               "difficulty": meta.difficulty}
    lines = [
        'schema_version = "1.4"', "", "[task]", f"name = {quote(f'{ORGANISATION}/{task.id}')}", 'version = "1.0.0"',
        f"description = {quote(shorten(task.name, 200))}",
        f"keywords = {json.dumps(['machine-learning', str(meta.task_kind)])}", "",
        "[metadata]", *(f"{name} = {quote(value)}" for name, value in sources.items() if value), "",
        "[verifier]", f"timeout_sec = {limit_s + 60}", "", "[agent]", f"timeout_sec = {AGENT_TIMEOUT_S}", "",
        "[environment]", "cpus = 2", "memory_mb = 4096", "storage_mb = 10240", "gpus = 0",
        'network_mode = "no-network"', f"workdir = {quote(WORKDIR)}", "",
    ]
    return "\n".join(lines)


def quote(text: str) -> str:
    """Text as a TOML string: a JSON string is one."""
    return json.dumps(text, ensure_ascii=False)


def build_instruction(task: Task, baseline: float) -> str:
    """The content of instruction.md, all that an agent is told of the task."""
    better = "higher" if task.direction == "maximize" else "lower"
    return (f"# {task.name}\n\n{task.description}\n\n"
            f"Work in {WORKDIR}. Write submission.csv there, with the columns of data/sample_submission.csv and one "
            f"row for each id of data/test.csv. It is scored by {task.metric} ({better} is better); baseline.py gets "
            f"{baseline:.4f}. The labels are not here.\n")


def build_dockerfile() -> str:
    """An image with the libraries that tasks may use, in the versions that are installed here."""
    pinned = " ".join(f"{name}=={version(name)}" for name in LIBRARIES)
    return (f"FROM python:3.11-slim\nRUN pip install --no-cache-dir {pinned}\n"
            f"COPY workspace {WORKDIR}\nWORKDIR {WORKDIR}\n")
