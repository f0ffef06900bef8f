"""The script with which gates run evaluations inside a sandbox; nothing imports it."""

from pathlib import Path

RUN_EVALUATIONS = Path(__file__).with_name("run_evaluations.py")
