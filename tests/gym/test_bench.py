"""`synthkit bench env` gives every figure; how fast a machine is, is no test."""

import json
import math
import shutil

import pytest

from synthkit.cli import main

BACKEND = "bwrap" if shutil.which("bwrap") else "process"
NAMED = ("start_stop_ms", "echo_ms", "open_ms", "edit_ms", "concurrent_actions_per_s", "python_cold_ms",
         "python_warm_ms", "fresh_process_ms")


def test_every_figure_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "env", "--json", "--n", "2", "--backend", BACKEND]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures)[:9] == ["backend", *NAMED] and figures["backend"] == BACKEND
    assert all(math.isfinite(figures[name]) and figures[name] > 0 for name in NAMED)


def test_no_measurement_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "env", "--n", "0"]) == 1
    assert "ask for 1 or more" in capsys.readouterr().err


def test_targets_stand_beside_the_figures() -> None:
    from synthkit.gym.bench import format_figures

    assert format_figures({"echo_ms": 0.2, "concurrent_actions_per_s": 5000.0, "n": 3}).splitlines() == [
        "echo_ms                             0.2  at most 1", "concurrent_actions_per_s         5000.0  at least 1000",
        "n                                     3"]
