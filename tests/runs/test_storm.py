"""An endpoint that answers 503 for a while, in stages 05 and 07: nothing becomes a refusal, or a model's failure.

What was held up is owed, the stage says so and does not finish, and a call after the storm ends equal to a run that
nobody disturbed. The storm is as long as SYNTHKIT_STORM_S says; `make storm` has one of ten minutes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kits.compare_runs import diff_runs
from kits.places import ROOT
from services.proxy import Proxy, serve_proxy

STORM_S = float(os.environ.get("SYNTHKIT_STORM_S", "0"))
FAILED, CALM = 503, 25


def run(run_dir: Path, proxy: Proxy, *more: str) -> "subprocess.CompletedProcess[str]":
    sets = {"run.run_dir": run_dir, "teacher.base_url": proxy.url, "teacher.max_retries": 2,
            "mlgym_eval.student.base_url": proxy.url, "mlgym_eval.workers": 4, "sft.epochs": 0.1}
    options = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    return subprocess.run([sys.executable, "-m", "synthkit", "run", "params/ci.yaml", *options, *more], cwd=ROOT,
                          capture_output=True, text=True, timeout=3600)


def start_storm(proxy: Proxy) -> Callable[[], bool]:
    """After the first ones from now on every request fails, for so long; returns whether the storm is over.

    The first are those of the notebook's preview, which fails as a whole when it cannot be shown.
    """
    seen, until = 0, [0.0]

    def fail(body: dict[str, Any]) -> int | None:
        nonlocal seen
        seen += 1
        if seen == CALM + 1:
            until[0] = time.monotonic() + STORM_S
        return FAILED if seen > CALM and time.monotonic() < until[0] else None

    proxy.fail = fail
    return lambda: seen > CALM and time.monotonic() >= until[0]


@pytest.mark.skipif(not STORM_S, reason="run by `make storm`")
def test_a_storm_leaves_items_owed_and_the_next_calls_end_as_if_there_had_been_none(tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    with serve_proxy() as proxy:
        done = run(calm, proxy)
        assert done.returncode == 0, done.stdout + done.stderr
    with serve_proxy() as proxy:
        assert run(rough, proxy, "--to", "04").returncode == 0
        for last in ("05", "07"):
            over, calls = start_storm(proxy), 0
            done = run(rough, proxy, "--to", last)
            while done.returncode != 0:
                assert "still owes" in done.stderr and "endpoint" in done.stderr, done.stderr
                calls += 1
                done = run(rough, proxy, "--to", last)
            assert calls >= 1 and over(), "it was held up, and ended after the storm"
            sys.stderr.write(f"\n{last}: {calls} calls ended owing in a storm of {STORM_S:g} s\n")
    assert diff_runs(calm, rough) == []
