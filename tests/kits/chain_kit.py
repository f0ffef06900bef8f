"""Stages that are finished without any work, for tests of what comes after them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthkit.core.chain import RESULT_FILES
from synthkit.core.opening import open_stage
from synthkit.core.params import STAGES


def finish_stage(run_dir: Path, name: str, text: str = "", /, **values: Any) -> dict[str, Any]:
    """Open a stage, leave `text` as what the next one reads, and finish it; returns its record."""
    stage = open_stage(name, {**values, "run_dir": str(run_dir)})
    if not stage.finished:
        stage.reopen()
    if text:
        path = stage.dir / RESULT_FILES[name][0]
        path = path if path.suffix else path / "model.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return stage.finish(1, 1, {})


def finish_before(run_dir: Path, name: str, values: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Finish every stage before `name` (all of them for ''); `values` holds parameters by stage."""
    for before in list(STAGES)[:list(STAGES).index(name) if name else None]:
        finish_stage(run_dir, before, **(values or {}).get(before, {}))
