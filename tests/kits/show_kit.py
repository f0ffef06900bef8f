"""Small hand-made runs for figures, tables, viewer and report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthkit.core.files import FORMAT, write_records


def make_scores() -> pd.DataFrame:
    """Two tasks, three models, three runs each; the base model never has a score."""
    rows = []
    for task, direction, baseline, good in (("alpha", "maximize", 0.8, 0.9), ("beta", "minimize", 10.0, 8.0)):
        for model in ("base", "student", "teacher"):
            for run in range(3):
                score = np.nan if model == "base" else good if run else baseline
                rows.append({"model": model, "task": task, "run": run, "score_best": score, "score_last": score,
                             "baseline": baseline, "direction": direction, "valid": model != "base",
                             "exit_status": "submitted"})
    return pd.DataFrame(rows)


def make_aup() -> dict[str, Any]:
    """aup.json for `make_scores`, with curves that are easy to check by hand."""
    tau = [0.0, 0.1, 0.2]
    share = {"base": [0.0, 0.0, 0.0], "student": [0.5, 1.0, 1.0], "teacher": [1.0, 1.0, 1.0], "baseline": [0.0, 0.5, 1]}
    area = {name: round(0.1 * sum(values[:-1]), 3) for name, values in share.items()}
    return {"max_tau": 0.2, "pool": list(share), "aup": {"best": area, "last": area},
            "difference": {"models": ["student", "base"], "value": 0.15, "low": 0.1, "high": 0.2},
            "tasks": ["alpha", "beta"], "tau": tau, "profiles": {"best": share, "last": share}}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Records into a file whose folder need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, rows)


def write_stage(run_dir: Path, name: str, refused: dict[str, int]) -> None:
    """A finished stage's completion record: of ten items all are kept but those refused."""
    folder = run_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    record = {"format": FORMAT, "name": name, "attempt": "a", "fingerprint": "f", "results": "r", "made_from": {},
              "requested": 10, "kept": 10 - sum(refused.values()), "refused": refused, "owed": 0, "metrics": {},
              "tokens": 5, "usd": 0.0, "charges": {}, "codes": ["c"], "made_by_other_code": False, "seconds": 6.0,
              "versions": {"synthkit": "0"}, "finished_at": "2026-01-01T00:00:00+00:00"}
    (folder / "stage.json").write_text(json.dumps(record))
