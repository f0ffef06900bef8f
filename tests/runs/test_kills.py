"""Whole runs of all seven notebooks that are killed by force again and again, at random moments of every stage.

Started again each time, they end equal to a run that nobody disturbed, and no reply that had arrived is asked for
again. Run by `make kills`; SYNTHKIT_KILLS is the number of kills.
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from kits.compare_runs import STAGES, diff_runs
from kits.places import ROOT
from services.proxy import Proxy, serve_proxy

KILLS = int(os.environ.get("SYNTHKIT_KILLS", "0"))
PRICES = {"usd_per_mtok_in": 1.0, "usd_per_mtok_out": 2.0, "budget_usd": 1000.0}
REPLY_S = 0.2
LIMIT_S = 600  # Only a hang takes so long.


def start(run_dir: Path, proxy: Proxy, log: Path) -> "subprocess.Popen[bytes]":
    values = {f"teacher.{key}": value for key, value in PRICES.items()}
    values |= {"run.run_dir": run_dir, "teacher.base_url": proxy.url, "mlgym_eval.workers": 1, "sft.epochs": 4.0}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, "-m", "synthkit", "run", "params/ci.yaml", *sets], cwd=ROOT,
                                stdout=out, stderr=out, env=os.environ | {"OMP_NUM_THREADS": "1"})


def find_stage(run_dir: Path) -> str:
    """The stage that a run is at: the first without its completion record."""
    return next((name for name in STAGES if not (run_dir / name / "stage.json").exists()), "")


def kill(runner: "subprocess.Popen[bytes]", what: str) -> None:
    """End by force the runner and all below it, or the runner alone, or the kernel alone, which may be at its end."""
    try:
        below = psutil.Process(runner.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    for process in below:
        try:
            if what == "all" or (what == "kernel" and is_kernel(process)):
                process.kill()
        except psutil.NoSuchProcess:
            continue
    if what != "kernel":
        runner.kill()
        runner.wait(LIMIT_S)
        assert psutil.wait_procs(below, timeout=300)[1] == [], "a kernel ends with its runner"


def is_kernel(process: psutil.Process) -> bool:
    try:
        return "ipykernel_launcher" in process.cmdline()
    except psutil.Error:
        return False


def run_with_kills(run_dir: Path, proxy: Proxy, log: Path, kills: int, seed: int,
                   seconds: dict[str, float]) -> dict[str, int]:
    """Run until the end, killed `kills` times, spread over the stages and, in each, over the `seconds` that it takes.

    Returns how many kills each stage had.
    """
    chance, had = random.Random(seed), dict.fromkeys(STAGES, 0)
    each = -(-kills // len(STAGES))
    while True:
        runner, hit = start(run_dir, proxy, log), False
        moment: float | None = None
        while runner.poll() is None:
            stage = find_stage(run_dir)
            begun = stage and (run_dir / stage / "opened.json").exists()
            due = had[stage] < each or stage == STAGES[-1] if begun else False
            if moment is None and due and sum(had.values()) < kills:
                moment = time.monotonic() + chance.uniform(0.0, seconds[stage])
            if moment is not None and time.monotonic() >= moment:
                had[find_stage(run_dir) or STAGES[-1]] += 1
                kill(runner, chance.choice(["all", "all", "runner", "kernel"]))
                hit, moment = True, None
            time.sleep(0.02)
        if runner.returncode == 0:
            return had
        assert hit, log.read_text()[-3000:]


def count_cached(run_dir: Path) -> int:
    """How many replies the cache holds."""
    with sqlite3.connect(run_dir / "llm_cache.sqlite") as db:
        return int(db.execute("SELECT COUNT(*) FROM replies").fetchone()[0])


def count_charges(run_dir: Path) -> dict[str, int]:
    with sqlite3.connect(run_dir / "ledger.sqlite") as db:
        return dict(db.execute("SELECT kind, COUNT(*) FROM charges WHERE NOT open GROUP BY kind").fetchall())


@pytest.mark.skipif(not KILLS, reason="run by `make kills`")
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(tmp_path: Path) -> None:
    with serve_proxy(REPLY_S) as proxy:
        assert sum(run_with_kills(tmp_path / "whole", proxy, tmp_path / "whole.log", 0, 0, {}).values()) == 0
        whole = sum(proxy.received.values())
    records = {name: json.loads((tmp_path / "whole" / name / "stage.json").read_text()) for name in STAGES}
    seconds = {name: record["seconds"] for name, record in records.items()}
    seed = int(os.environ.get("SYNTHKIT_SEED", "0"))
    with serve_proxy(REPLY_S) as proxy:
        had = run_with_kills(tmp_path / "killed", proxy, tmp_path / "killed.log", KILLS, seed, seconds)
        received, repeats = sum(proxy.received.values()), proxy.count_repeats()
    charges = count_charges(tmp_path / "killed")
    sys.stderr.write(f"\n{json.dumps({'kills': had, 'requests': [whole, received], 'charges': charges})}\n")
    # A stage that is taken up again may be over before its moment comes.
    assert KILLS / 2 < sum(had.values()) <= KILLS
    assert diff_runs(tmp_path / "whole", tmp_path / "killed") == []
    presumed = charges.get("presumed", 0)
    assert repeats <= presumed, "only what was under way at a kill is asked for again"
    assert received - presumed <= charges["paid"] <= received, "and stands once in the ledger"
    cached = count_cached(tmp_path / "killed")
    assert cached - presumed <= charges["paid"] <= cached == len(proxy.received), "no reply was paid for twice"
    assert presumed <= KILLS * 8, "eight requests are in flight at a time"
