"""Stages 01 to 05 of the offline profile on a Ray cluster of two nodes, one of which is taken away in stage 05.

Run by `make ray-offline`. Its records are compared with those of a local run: SYNTHKIT_LOCAL_RUN names one that is
there, else it is made first.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.compare_runs import diff_runs
from kits.places import ROOT

if not os.environ.get("SYNTHKIT_RAY_OFFLINE"):
    pytest.skip("run by `make ray-offline`", allow_module_level=True)

TO_05 = ("01_topics", "02_datasets", "03_codegen", "04_self_debug", "05_trajectories")
LEAVES_AFTER = 40  # rollouts
LIMIT_S = 3000  # Only a hang takes so long.


def start(run_dir: Path, *sets: str) -> "subprocess.Popen[str]":
    options = [part for text in (f"run.run_dir={run_dir}", *sets) for part in ("--set", text)]
    return subprocess.Popen([sys.executable, "-m", "synthkit", "run", "params/offline.yaml", "--to", "05", *options],
                            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    given = os.environ.get("SYNTHKIT_LOCAL_RUN")
    if given:
        return ROOT / given
    run = start(tmp_path / "local")
    said, _ = run.communicate(timeout=LIMIT_S)
    assert run.returncode == 0, said
    return tmp_path / "local"


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


def count_rollouts(run_dir: Path) -> int:
    path = run_dir / "05_trajectories" / "rollouts.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_the_offline_run_on_two_nodes_of_which_one_leaves_equals_the_local_one(
        cluster: Any, local: Path, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=1)
    run = start(tmp_path / "ray", "run.executor=ray", f"ray.address={cluster.address}", "mlgym_eval.executor=local")
    left, waiting = 0, threading.Event()
    while run.poll() is None and not left:
        waiting.wait(0.2)
        if count_rollouts(tmp_path / "ray") >= LEAVES_AFTER:
            left = count_rollouts(tmp_path / "ray")
            cluster.remove_node(second)
    said, _ = run.communicate(timeout=LIMIT_S)
    assert run.returncode == 0, said
    sys.stderr.write(f"\nthe node left after {left} of {count_rollouts(tmp_path / 'ray')} rollouts\n{said}\n")
    assert left and diff_runs(local, tmp_path / "ray", TO_05) == []
