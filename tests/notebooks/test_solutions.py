"""The exercises' solutions run on a finished run, and answer something in every cell that should."""

from pathlib import Path

import nbformat
import papermill
import pytest
from kits.places import ROOT

from synthkit.core.params import STAGES

SOLUTIONS = ROOT / "notebooks" / "solutions"


@pytest.mark.parametrize("name", list(STAGES))
def test_solution_runs(name: str, ci_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.ipynb"
    papermill.execute_notebook(str(SOLUTIONS / f"{name}.ipynb"), str(output), parameters={"run_dir": str(ci_run)},
                               cwd=str(SOLUTIONS), progress_bar=False)
    cells = [cell for cell in nbformat.read(output, as_version=4).cells if "-solution-" in cell.get("id", "")]
    assert len(cells) == 3
    assert all(cell.outputs for cell in cells)
