"""Stages 02 to 04 killed by force in the middle: started again they end the same, and no answer is asked for twice.

`make test` kills stage 03, `make kills` each of them.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kits.loopback_teacher import serve_teacher
from kits.places import ROOT
from kits.stage_kit import ANSWERS, BASELINE, CODE, PLAN, finish_datasets, finish_drafts, finish_topics

BACKEND = "bwrap" if shutil.which("bwrap") else "process"
slow = pytest.mark.skipif("SYNTHKIT_KILLS" not in os.environ, reason="run by `make kills`")
TOPICS = 5
CONCURRENCY = 2
WORKER = """
import importlib, json, sys
from synthkit.core.opening import open_stage
name, values = json.loads(sys.argv[1])
stage = open_stage(name, values)
module = importlib.import_module(f"synthkit.stages.{name[3:]}")
module.run(stage)
module.check(stage)
module.finish(stage)
"""
OPTIONS: dict[str, dict[str, Any]] = {
    "02_datasets": {"benchmark": "none", "max_near_duplicates": 9},
    "03_codegen": {},
    "04_self_debug": {"sandbox": {"backend": BACKEND}, "p_debug": 1.0, "workers": CONCURRENCY},
}
BROKEN = CODE | {"baseline_py": BASELINE.replace('train["species"]', 'train["kind"]')}


def answer_code(messages: list[dict[str, str]]) -> dict[str, str]:
    """The first draft of every task fails; the repair is good."""
    return CODE if "Failing gate" in messages[-1]["content"] else BROKEN


def answer_plan(messages: list[dict[str, str]]) -> dict[str, Any]:
    return PLAN


class Killer:
    """Kills the worker by its process id at the n-th request of the stage, before that is answered."""

    def __init__(self, at: int):
        self.at, self.count, self.lock = at, 0, threading.Lock()
        self.worker: subprocess.Popen[bytes] | None = None
        self.asked: Counter[str] = Counter()

    def watch(self, form: str, messages: list[dict[str, str]]) -> None:
        key = form + json.dumps(messages)
        with self.lock:
            self.count += 1
            self.asked[key] += 1
            dead = self.worker is None or self.worker.returncode is not None
            if not dead and self.count >= self.at:
                self.worker.kill()
                self.worker.wait()


def prepare(name: str, run_dir: Path, teacher: Any) -> None:
    if name == "02_datasets":
        finish_topics(run_dir, teacher, TOPICS)
    elif name == "03_codegen":
        finish_datasets(run_dir, teacher, TOPICS)
    else:
        finish_drafts(run_dir, teacher, TOPICS)


def start(name: str, run_dir: Path, teacher: Any) -> subprocess.Popen[bytes]:
    values = {"run_dir": str(run_dir), "teacher": teacher.params | {"concurrency": CONCURRENCY}} | OPTIONS[name]
    return subprocess.Popen([sys.executable, "-c", WORKER, json.dumps([name, values])],
                            cwd=ROOT, stderr=subprocess.PIPE, env=os.environ)


def read_results(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in ("stage.json", "opened.json") and "downloads" not in path.parts}


def run_stage(name: str, run_dir: Path, killer: Killer) -> dict[str, bytes]:
    """The stage's files, from a run that is killed once unless the killer waits for more requests than there are."""
    forms = {"DatasetProposal": ANSWERS["DatasetProposal"], "TaskPlan": answer_plan, "TaskCode": answer_code}

    def watched(form: str) -> Any:
        def answer(messages: list[dict[str, str]]) -> Any:
            if killer.worker is not None:
                killer.watch(form, messages)
            return forms[form](messages)
        return answer

    with serve_teacher({form: watched(form) for form in forms}) as teacher:
        prepare(name, run_dir, teacher)
        killer.worker = start(name, run_dir, teacher)
        _, errors = killer.worker.communicate(timeout=600)
        if killer.worker.returncode < 0:
            second = start(name, run_dir, teacher)
            _, errors = second.communicate(timeout=600)
            assert second.returncode == 0, errors.decode()
        else:
            assert killer.worker.returncode == 0, errors.decode()
    return read_results(run_dir / name)


@pytest.mark.parametrize(("name", "kills"), [
    pytest.param("02_datasets", (2, 5), marks=slow), ("03_codegen", (2, 4)),
    pytest.param("04_self_debug", (3,), marks=slow),
])
def test_a_killed_stage_ends_the_same_and_pays_nothing_twice(name: str, kills: tuple[int, ...], tmp_path: Path) -> None:
    whole = run_stage(name, tmp_path / "whole", Killer(1_000))
    for at in kills:
        killer = Killer(at)
        assert run_stage(name, tmp_path / str(at), killer) == whole
        # What was under way when the kill came is lost; all that was answered before is not asked again.
        assert 1 <= sum(killer.asked.values()) - len(killer.asked) <= CONCURRENCY
