"""Stage 01 against a teacher on loopback: even coverage, duplicates, giving up, and resuming to the same bytes."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.loopback_teacher import serve_teacher
from sklearn.feature_extraction.text import TfidfVectorizer

from synthkit.core.errors import StageError
from synthkit.core.files import read_records, write_records
from synthkit.core.opening import open_stage
from synthkit.core.params import TopicsParams
from synthkit.core.stage import Stage
from synthkit.offline.library import load_library
from synthkit.records import Batch, Cell, RefusedIdea
from synthkit.stages.common.similarity import TextIndex, normalise_text
from synthkit.stages.topics import stage as topics
from synthkit.stages.topics.grid import Grid, deal_cells, read_grid

WORDS = "river glass parliament yeast comet violin granite tariff orchid lantern turbine meadow saddle copper".split()
NAMES = {"Area": "area", "Modality": "modality", "Task type": "task_type", "Difficulty": "difficulty"}


def answer_topics(messages: list[dict[str, str]]) -> dict[str, Any]:
    """A topic for each cell about the next word that is not taken; each batch repeats its first topic at its end."""
    text = messages[-1]["content"]
    taken = len(re.findall(r"^Already taken: Forecast", text, re.M))
    cells = [dict(zip(NAMES.values(), found, strict=True)) for found in re.findall(
        "".join(rf"^{name}: (.*)\n" for name in NAMES), text, re.M)]
    made = []
    for k, cell in enumerate(cells):
        word = WORDS[taken + (0 if k and k == len(cells) - 1 else k)]
        made.append(cell | {"title": f"Forecast the {word}", "summary": f"What becomes of every {word} {word}s."})
    return {"topics": made}


def open_topics(run_dir: Path, teacher: Any, **values: Any) -> Stage:
    return open_stage("01_topics", {"run_dir": str(run_dir), "n_topics": 7, "batch_size": 4, "teacher": teacher.params,
                                    **values})


def test_asks_until_there_are_enough_and_names_the_near_duplicates(tmp_path: Path) -> None:
    with serve_teacher({"TopicBatch": answer_topics}) as teacher:
        stage = open_topics(tmp_path, teacher)
        kept = topics.run(stage)
    assert [topic.id[:4] for topic in kept] == [f"t{n:03d}" for n in range(1, 8)]
    assert kept[0].id == "t001-forecast-the-river"
    refused = read_records(stage.dir / "refused.jsonl", RefusedIdea)
    assert refused[0].reason == "near_duplicate" and refused[0].near_duplicate_of == refused[0].title
    requested, n, reasons, _ = topics.funnel(stage)
    assert requested == n + sum(reasons.values()) and n == 7
    topics.check(stage)
    assert topics.finish(stage)["metrics"]["batches"] == len(teacher.asked)


def test_a_resumed_run_asks_nothing_twice_and_leaves_the_same_bytes(tmp_path: Path) -> None:
    names = ("topics.jsonl", "refused.jsonl", "batches.jsonl")
    with serve_teacher({"TopicBatch": answer_topics}) as teacher:
        stage = open_topics(tmp_path, teacher)
        topics.run(stage)
        whole, asked = {name: (stage.dir / name).read_bytes() for name in names}, len(teacher.asked)
        batches = whole["batches.jsonl"].splitlines(keepends=True)
        (stage.dir / "batches.jsonl").write_bytes(batches[0] + batches[1][:20])
        (stage.dir / "topics.jsonl").unlink()
        topics.run(open_topics(tmp_path, teacher))
    assert {name: (stage.dir / name).read_bytes() for name in names} == whole
    assert len(teacher.asked) == asked


def test_gives_up_after_idle_batches_and_counts_bad_replies(tmp_path: Path) -> None:
    with serve_teacher({"TopicBatch": lambda messages: "I would rather not."}) as teacher:
        stage = open_topics(tmp_path, teacher, max_idle_batches=2)
        assert topics.run(stage) == []
    assert topics.funnel(stage) == (8, 0, {"bad_reply": 8}, {})
    with pytest.raises(StageError, match="no topic was kept"):
        topics.check(stage)


def test_a_changed_grid_is_noticed(tmp_path: Path) -> None:
    with serve_teacher({"TopicBatch": answer_topics}) as teacher:
        stage = open_topics(tmp_path, teacher)
        topics.run(stage)
        rows = read_records(stage.dir / "batches.jsonl", Batch)
        rows[0].cells[0].difficulty = "impossible"
        write_records(stage.dir / "batches.jsonl", rows)
        with pytest.raises(StageError, match="the grid was changed"):
            topics.run(stage)


def test_cells_are_dealt_evenly() -> None:
    grid = read_grid(TopicsParams().grid)
    assert len(grid.areas) >= 8
    dealt = deal_cells(grid, [], 3 * len(grid.areas), seed=1)
    counts = [sum(cell.area == area for cell in dealt) for area in grid.areas]
    assert counts == [3] * len(grid.areas)
    assert len({cell.key for cell in dealt}) == len(dealt)
    assert deal_cells(grid, dealt[:20], 5, seed=1) == dealt[20:25]


def test_an_unfit_grid_is_named(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("difficulties: [easy]\nareas: {a: {modality: [table]}}\n")
    with pytest.raises(StageError, match="modalities"):
        read_grid(str(path))
    with pytest.raises(StageError, match="there is no grid"):
        read_grid(str(tmp_path / "absent.yaml"))
    assert Grid.model_validate({"difficulties": ["easy"], "areas": {"a": {"modalities": ["m"], "task_types": ["t"]}}}
                               ).cells() == [Cell(area="a", modality="m", task_type="t", difficulty="easy")]


def test_near_duplicates_are_found_by_words_not_by_spelling() -> None:
    others = ["Predict the yield of wheat fields from weather", "Count visits to a doctor"]
    assert TextIndex(others).find_near_duplicate("PREDICT the yield of wheat-fields, from weather!", 0.8) == (0, 1.0)
    assert TextIndex(others).find_near_duplicate("Predict the yield of wheat fields from the weather", 0.6)[0] == 0
    assert TextIndex(others).find_near_duplicate("Classify the species of an iris", 0.6)[0] is None


def test_closeness_is_the_cosine_of_scikit_learns_weights() -> None:
    texts = [f"{entry.title}. {entry.summary}" for entry in load_library().values()]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
    weights = vectorizer.fit_transform([normalise_text(text) for text in texts])
    expected = (weights[:-1] @ weights[-1].T).toarray().ravel()
    assert np.allclose(TextIndex(texts[:-1]).compare(texts[-1]), expected)
    assert list(TextIndex(["a b"]).compare("")) == [0.0] and not len(TextIndex().compare("a"))
