"""A notebook's parameters cell is read without running it, and every fault in it is told."""

import json
from pathlib import Path

from synthkit.core.notebooks import check_notebook
from synthkit.core.params import StageParams, TopicsParams, TrajectoriesParams


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def save_notebook(path: Path, *sources: str, tag: str = "parameters") -> Path:
    cells = [{"cell_type": "code", "metadata": {"tags": [tag]}, "source": source.splitlines(keepends=True)}
             for source in sources]
    return write(path, json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


def cell_of(params: StageParams) -> str:
    return "# Comments are fine.\n" + "".join(f"{name} = {value!r}\n" for name, value in params.model_dump().items())


def test_a_notebook_with_every_parameter_as_a_literal_passes(tmp_path: Path) -> None:
    path = save_notebook(tmp_path / "05.ipynb", cell_of(TrajectoriesParams()))
    assert check_notebook(path, TrajectoriesParams) == []


def test_every_fault_of_a_parameters_cell_is_told(tmp_path: Path) -> None:
    source = cell_of(TopicsParams()).replace("n_topics =", "n_topic =") + "half = seed // 2\nseed += 1\na = b = 1\n"
    faults = check_notebook(save_notebook(tmp_path / "n.ipynb", source), TopicsParams)
    assert "n.ipynb: n_topic is no parameter of this stage; did you mean 'n_topics'?" in faults
    assert "n.ipynb: the parameter n_topics is missing" in faults
    assert "n.ipynb: half is derived; papermill cannot change what it is made of" in faults
    assert sum("is not `name = literal`" in fault for fault in faults) == 2


def test_a_notebook_without_one_readable_parameters_cell_is_a_fault(tmp_path: Path) -> None:
    broken = [
        (tmp_path / "absent.ipynb", "missing"), (write(tmp_path / "a.ipynb", "{"), "not a notebook"),
        (write(tmp_path / "b.ipynb", "{}"), "not a notebook"),
        (save_notebook(tmp_path / "c.ipynb", "seed = 1", tag="other"), "0 cells are tagged"),
        (save_notebook(tmp_path / "d.ipynb", "seed = 1", "seed = 2"), "2 cells are tagged"),
        (save_notebook(tmp_path / "e.ipynb", "seed = 1\nx = (\n"), "line 2 of the parameters cell is not Python"),
    ]
    for path, expected in broken:
        (fault,) = check_notebook(path, TopicsParams)
        assert fault.startswith(path.name) and expected in fault
