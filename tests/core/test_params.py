"""Every parameter is described once, in its field, and what is read elsewhere is written from there."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from kits.places import ROOT
from pydantic import BaseModel

from synthkit.core import params as models
from synthkit.core.describe_params import (
    describe_field,
    find_sections,
    list_parameters,
    take_gist,
    write_cell_comments,
    write_yaml_comments,
)
from synthkit.core.errors import ParamError
from synthkit.core.opening import open_stage
from synthkit.core.params import STAGES
from synthkit.core.profiles import RUN_FIELDS

BASE = ROOT / "params" / "base.yaml"
REMEDY = "run `python -m synthkit.core.describe_params` and commit what it writes"
LESSONS = [ROOT / "notebooks" / f"{name}.ipynb" for name in STAGES]
TEXTS = [ROOT / "README.md", ROOT / "outputs" / "README.md", *LESSONS]
# The same parameter in two places: with one meaning it is described once.
SHARED_MEANINGS = {"usd_per_mtok_in", "usd_per_mtok_out", "teacher", "hub", "sandbox", "reply_format"}


def walk_models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all models that its fields hold."""
    yield model
    for field in model.model_fields.values():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from walk_models(part)


MODELS = list(dict.fromkeys(found for stage in STAGES.values() for found in walk_models(stage)))
FIELDS = [(model, name) for model in MODELS for name in model.model_fields]


def read_cell(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return next("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))


def test_all_models_are_walked_through_and_documented() -> None:
    assert {model.__name__ for model in MODELS} | {"Strict", "StageParams", "WorkParams", "SpreadParams"} \
        == {name for name in models.__all__ if isinstance(getattr(models, name), type)}
    assert [name for name in models.__all__ if isinstance(getattr(models, name), type)
            and "__doc__" not in vars(getattr(models, name))] == []


def find_faulty(is_sound: Callable[[str, Any], bool]) -> list[str]:
    """The fields of which a test of (description, type) does not hold."""
    return [f"{model.__name__}.{name}: {describe_field(model, name)}" for model, name in FIELDS
            if not is_sound(describe_field(model, name), model.model_fields[name].annotation)]


def test_a_description_is_made_of_whole_sentences_and_short() -> None:
    assert find_faulty(lambda text, _: text[:1].isupper() and text.endswith(".")) == []
    assert find_faulty(lambda text, _: len(take_gist(text)) <= 120 and len(text) <= 320) == []


def test_a_description_says_what_null_means_and_what_can_be_chosen() -> None:
    assert find_faulty(lambda text, kind: type(None) not in get_args(kind) or "null" in text) == []
    assert find_faulty(lambda text, _: "None" not in text) == [], "YAML and Stage.describe say null"
    assert find_faulty(lambda text, kind: all(choice in text for choice in get_args(kind)
                                              if isinstance(choice, str))) == []


def test_no_two_parameters_of_different_meaning_share_a_description() -> None:
    names = defaultdict(set)
    for model, name in FIELDS:
        names[describe_field(model, name)].add(name)
    assert [found for found in names.values() if len(found) > 1] == []
    own = defaultdict(set)
    for model, name in FIELDS:
        definer = next(base for base in reversed(model.__mro__) if name in getattr(base, "model_fields", {}))
        own[name, describe_field(model, name)].add(definer)
    assert {name for (name, _), owners in own.items() if len(owners) > 1} <= SHARED_MEANINGS


def test_base_yaml_has_the_comments_of_the_models() -> None:
    text = BASE.read_text(encoding="utf-8")
    assert write_yaml_comments(text) == text, REMEDY


def test_base_yaml_names_every_parameter() -> None:
    values = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    wanted = {section: model() for section, model in find_sections().items()}
    assert list(values) == list(wanted)
    for section, model in wanted.items():
        names = RUN_FIELDS if section == "run" else list(type(model).model_fields)
        names = [name for name in names if section == "run" or name not in (*RUN_FIELDS, *values)]
        assert list(values[section]) == list(names), section
        nested = {name: value for name, value in model if name in names and isinstance(value, BaseModel)}
        assert {name: list(values[section][name]) for name in nested} \
            == {name: list(type(value).model_fields) for name, value in nested.items()}


def test_comments_are_written_anew_and_notes_on_values_stay() -> None:
    text = ("# A header.\n\n# Old.\nsft:  # why\n  # Old.\n  epochs: 5.0  # paper: not disclosed\n"
            "  lora:\n    r: 4\n")
    assert write_yaml_comments(text).splitlines() == [
        "# A header.", "", "# Stage 06: which student is trained on the kept trajectories, and how.", "sft:  # why",
        "  # Passes over the training rows. A fraction stops within a pass.", "  epochs: 5.0  # paper: not disclosed",
        '  # LoRA adapters to train, such as {"r": 16, "alpha": 32, "dropout": 0.05}. null trains all weights.',
        "  lora:", "    # Rank of each adapter's two matrices.", "    r: 4"]
    cell = 'epochs = 5.0  # old (paper: 2).\nmodel = "a"\nbf16 = (\n    True)  # old (not a note).'
    assert write_cell_comments(cell, STAGES["06_sft"]) == (
        'epochs = 5.0  # Passes over the training rows (paper: 2).\n'
        'model = "a"  # Model to train: its Hub id or its folder.\n'
        'bf16 = (\n    True)  # Whether to compute in bfloat16, which GPUs do faster than float32.')


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_notebooks_parameters_have_the_comments_of_the_models(path: Path) -> None:
    cell = read_cell(path)
    assert write_cell_comments(cell, STAGES[path.stem]) == cell, REMEDY
    assert {name for name, _ in list_parameters(cell)} == set(STAGES[path.stem].model_fields)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_parameter_that_a_text_names_exists(path: Path) -> None:
    sections = find_sections()
    named = re.findall(rf"`({'|'.join(sections)})\.(?!jsonl)(\w+)`", path.read_text(encoding="utf-8"))
    assert [f"{section}.{name}" for section, name in named if name not in sections[section].model_fields] == []


def test_a_stage_shows_each_parameter_with_value_and_meaning(tmp_path: Path) -> None:
    stage = open_stage("01_topics", {"run_dir": str(tmp_path), "n_topics": 77})
    table = stage.describe().data.set_index("parameter")
    assert list(table.columns) == ["value", "meaning"]
    assert list(table.loc["n_topics"]) == ["77", describe_field(STAGES["01_topics"], "n_topics")]
    assert table.loc["teacher", "value"] == 'stage.describe("teacher")'
    below = stage.describe("teacher").data
    assert list(below["parameter"]) == list(models.TeacherParams.model_fields)
    assert below["meaning"].str.endswith(".").all()
    for name in ("n_topics", "nothing"):
        with pytest.raises(ParamError, match="holds no parameters"):
            stage.describe(name)
