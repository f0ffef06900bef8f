"""Stages on a Ray cluster of two nodes: the same records as on local workers, also when a node leaves in the middle.

Run by `make ray`, which installs requirements.ray.lock first.
"""

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.loopback_teacher import Teacher, serve_teacher
from kits.stage_kit import ANSWERS, BASELINE, CODE, finish_datasets, finish_empty, open_with

from synthkit.core.errors import EndpointError, ParamError
from synthkit.core.params import STAGES
from synthkit.core.profiles import check_params
from synthkit.core.stage import Stage
from synthkit.stages.codegen import stage as codegen
from synthkit.stages.mlgym_eval import stage as mlgym_eval
from synthkit.stages.self_debug import stage as self_debug
from synthkit.stages.trajectories import stage as trajectories

if not os.environ.get("SYNTHKIT_RAY"):
    pytest.skip("run by `make ray`", allow_module_level=True)

SANDBOX = {"backend": "bwrap" if shutil.which("bwrap") else "process"}
TASKS = 4
MODULES: dict[str, Any] = {"03_codegen": codegen, "04_self_debug": self_debug, "05_trajectories": trajectories}
OPTIONS: dict[str, dict[str, Any]] = {
    "03_codegen": {}, "04_self_debug": {"sandbox": SANDBOX, "p_debug": 1.0},
    "05_trajectories": {"sandbox": SANDBOX, "per_task": 3, "max_steps": 5, "workers": 4},
}
BROKEN = CODE | {"baseline_py": BASELINE.replace('train["species"]', 'train["kind"]')}
ACTIONS = ("ls", "python baseline.py", "validate", "submit")


class Cluster:
    """Two nodes of two processors; the second can leave."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        self.ray = RayCluster(initialize_head=True, head_node_args={"num_cpus": 2})
        self.address = str(self.ray.address)
        self.second: Any = None

    def add(self) -> None:
        if self.second is None:
            self.second = self.ray.add_node(num_cpus=2)

    def remove(self) -> None:
        self.ray.remove_node(self.second)
        self.second = None


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.ray.shutdown()


def answer_code(messages: list[dict[str, str]]) -> Any:
    """The first draft of every task fails; the repair is good."""
    return CODE if "Failing gate" in messages[-1]["content"] else BROKEN


def act(messages: list[dict[str, str]]) -> str:
    turn = sum(message["role"] == "assistant" for message in messages)
    return f"DISCUSSION\nNext.\n```\n{ACTIONS[min(turn, len(ACTIONS) - 1)]}\n```"


def run_stages(run_dir: Path, teacher: Teacher, spread: dict[str, Any]) -> None:
    finish_datasets(run_dir, teacher, TASKS)
    for name, module in MODULES.items():
        stage = open_with(name, run_dir, teacher, **OPTIONS[name], **spread)
        module.run(stage)
        module.check(stage)
        module.finish(stage)


def read_results(run_dir: Path) -> dict[str, Any]:
    """Every record of the three stages and every file of a task, times left out."""
    found: dict[str, Any] = {}
    for name in MODULES:
        for path in sorted((run_dir / name).rglob("*")):
            if path.is_file() and path.suffix in (".jsonl", ".py", ".yaml", ".csv"):
                found[str(path.relative_to(run_dir))] = path.read_bytes()
    return found


def count_repeats(teacher: Teacher) -> int:
    asked = Counter(json.dumps(body, sort_keys=True) for body in teacher.bodies)
    return sum(asked.values()) - len(asked)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """What local workers make, and how many requests they repeat: rollouts of one task begin alike."""
    run_dir = tmp_path_factory.mktemp("local")
    with serve_teacher(ANSWERS | {"TaskCode": answer_code, "": act}) as teacher:
        run_stages(run_dir, teacher, {})
        return read_results(run_dir), count_repeats(teacher)


def test_stages_on_two_nodes_leave_what_local_workers_leave(
        cluster: Cluster, local: tuple[dict[str, Any], int], tmp_path: Path) -> None:
    cluster.add()
    with serve_teacher(ANSWERS | {"TaskCode": answer_code, "": act}) as teacher:
        run_stages(tmp_path, teacher, {"executor": "ray", "ray": {"address": cluster.address}})
        assert (read_results(tmp_path), count_repeats(teacher)) == local


def test_a_node_that_leaves_in_the_middle_costs_neither_a_record_nor_a_reply(
        cluster: Cluster, local: tuple[dict[str, Any], int], tmp_path: Path) -> None:
    cluster.add()
    turns, leaving = 0, threading.Lock()

    def act_and_leave(messages: list[dict[str, str]]) -> str:
        nonlocal turns
        with leaving:
            turns += 1
            if turns == 9:
                cluster.remove()
        return act(messages)

    with serve_teacher(ANSWERS | {"TaskCode": answer_code, "": act_and_leave}) as teacher:
        run_stages(tmp_path, teacher, {"executor": "ray", "ray": {"address": cluster.address}})
        assert (read_results(tmp_path), count_repeats(teacher)) == local
    assert cluster.second is None and turns > 9


@pytest.mark.parametrize(("values", "cause"), [
    ({"address": "127.0.0.1:1"}, "no Ray cluster at 127.0.0.1:1"), ({"address": "nowhere"}, "no Ray cluster"),
    ({"gpus": 9.0}, "offers 1 CPU, 9 GPU"),
])
def test_what_cannot_run_is_one_clear_error_before_the_first_request(
        cluster: Cluster, tmp_path: Path, values: dict[str, Any], cause: str) -> None:
    with serve_teacher(ANSWERS) as teacher:
        finish_datasets(tmp_path, teacher, 1)
        asked = len(teacher.asked)
        stage = open_with("03_codegen", tmp_path, teacher, executor="ray", ray={"address": cluster.address} | values)
        with pytest.raises(EndpointError, match=cause):
            codegen.run(stage)
        assert len(teacher.asked) == asked


def evaluate(run_dir: Path, teacher: Teacher, **spread: Any) -> Stage:
    finish_empty(run_dir, *list(STAGES)[:6])
    stage = open_with("07_mlgym_eval", run_dir, teacher, tasks=["wineCultivar"], runs=2, max_steps=5, workers=4,
                      student={"base_url": teacher.url}, sandbox=SANDBOX, **spread)
    mlgym_eval.run(stage)
    mlgym_eval.check(stage)
    return stage


def test_an_evaluation_on_ray_asks_students_behind_a_url(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add()
    with serve_teacher({"": act}) as teacher:
        home = evaluate(tmp_path / "local", teacher)
        away = evaluate(tmp_path / "ray", teacher, executor="ray", ray={"address": cluster.address})
    assert mlgym_eval.read_runs(away) == mlgym_eval.read_runs(home) and len(mlgym_eval.read_runs(away)) == 6
    assert {body["model"] for body in teacher.bodies} == {"base", "student", "loopback"}


def test_a_student_in_this_process_is_refused_on_ray() -> None:
    with pytest.raises(ParamError, match="a model in this process cannot serve a cluster"):
        check_params("07_mlgym_eval", {"executor": "ray"})
