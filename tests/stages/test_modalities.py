"""Pictures and sentences, as the Hub's files hold them, become tasks that pass every gate."""

import io
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from kits.loopback_teacher import serve_teacher
from kits.stage_kit import CODE, EVALUATE, finish_topics, open_with
from PIL import Image as Pictures
from sklearn.datasets import load_digits

from synthkit.core.errors import HubError
from synthkit.gym import Task
from synthkit.gym.agent.observations import name_some
from synthkit.offline.hub_server import open_hub
from synthkit.records import Proposal
from synthkit.stages.codegen import stage as codegen
from synthkit.stages.common.images import read_picture
from synthkit.stages.datasets import stage as datasets
from synthkit.stages.datasets.column_summary import describe_columns, sample_rows
from synthkit.stages.self_debug import stage as self_debug

NAME = "someone/digit-pictures"
PROPOSAL = {"dataset_id": NAME, "search_words": [], "reason": "pictures"}
PLAN = {"target": "label", "task_kind": "classification", "metric": "accuracy", "split": "stratified",
        "features": ["image"], "group_or_time": None, "title": "Digits in pictures",
        "description": "One row is a picture of a digit."}
BASELINE = """import numpy as np
import pandas as pd
from PIL import Image
from sklearn.neighbors import NearestCentroid


def read(paths):
    pictures = [Image.open(f"data/{path}").convert("L").resize((2, 2)) for path in paths]
    return np.array([np.asarray(picture, float).ravel() for picture in pictures])


train, test = pd.read_csv("data/train.csv"), pd.read_csv("data/test.csv")
model = NearestCentroid().fit(read(train["image"]), train["label"])
pd.DataFrame({"id": test["id"], "label": model.predict(read(test["image"]))}).to_csv("submission.csv", index=False)
"""
SEARCH_WORD = """import pandas as pd

test = pd.read_csv("data/test.csv")
test["kind"] = test["note"].str.contains("rain|storm").map({True: "foul", False: "fair"})
test[["id", "kind"]].to_csv("submission.csv", index=False)
"""
ANSWERS = {
    "DatasetProposal": lambda messages: PROPOSAL, "TaskPlan": lambda messages: PLAN,
    "TaskCode": lambda messages: CODE | {
        "description": "Read the digit in a picture.", "baseline_py": BASELINE,
        "evaluate_py": EVALUATE.replace("species", "label")},
}


@contextmanager
def serve_hub(site: Path, name: str) -> Iterator[str]:
    """A Hub on loopback with one dataset, whose files lie in its folder."""
    files = {path.name: {"size": path.stat().st_size, "sha256": "0" * 64} for path in (site / name).iterdir()}
    row = {"id": name, "sha": "a" * 40, "tags": [], "card_data": {"license": "mit"}, "files": files, "gated": False,
           "private": False, "disabled": False}
    (site / "index.json").write_text(json.dumps({name: row}))
    server = open_hub(site)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def make_task(run: Path, hub: str, answers: dict[str, Any]) -> tuple[Proposal, Task, list[str]]:
    """Stages 02 to 04 for one topic: the proposal, the verified task, and what the teacher was asked."""
    with serve_teacher(answers) as teacher:
        finish_topics(run, teacher)
        stage = open_with("02_datasets", run, teacher, benchmark="none", hub={"endpoint": hub})
        (row,) = datasets.run(stage)
        datasets.check(stage)
        datasets.finish(stage)
        for name, module in (("03_codegen", codegen), ("04_self_debug", self_debug)):
            stage = open_with(name, run, teacher)
            module.run(stage)
            module.check(stage)
            module.finish(stage)
        asked = [messages[-1]["content"] for form, messages in teacher.asked if form != "DatasetProposal"]
    return row, Task.load(stage.dir / "tasks", row.task_id), asked


def put_pictures(home: Path) -> None:
    home.mkdir(parents=True)
    digits = load_digits()
    table = {"image": [Pictures.fromarray((pixels * 15).astype("uint8")) for pixels in digits.images[:200]],
             "label": digits.target[:200]}
    kinds = Features({"image": Image(), "label": ClassLabel(names=[str(digit) for digit in range(10)])})
    Dataset.from_dict(table, features=kinds).to_parquet(home / "train.parquet")
    (home / "README.md").write_text("# Digits\n")


def put_sentences(home: Path) -> None:
    """Notes about days, in a CSV file with commas, quotes and line breaks; a few words tell which kind a day was."""
    home.mkdir(parents=True)
    rng = random.Random(0)
    words = {"fair": "sunny calm bright walk garden".split(), "foul": "rain storm grey cold umbrella".split()}
    common = "the day was and we had some then it later so very".split()
    rows = []
    for _ in range(240):
        kind = rng.choice(list(words))
        text = [*rng.choices(common, k=rng.randint(6, 14)), *rng.sample(words[kind], 2), rng.choice(words["fair"])]
        rng.shuffle(text)
        rows.append({"note": " ".join(text[:4]) + ', "quoted",\n' + " ".join(text[4:]), "kind": kind})
    pd.DataFrame(rows).to_csv(home / "train.csv", index=False)


def test_pictures_become_files_and_the_task_passes_every_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHKIT_CACHE", str(tmp_path / "cache"))
    put_pictures(tmp_path / "site" / NAME)
    with serve_hub(tmp_path / "site", NAME) as hub:
        row, task, asked = make_task(tmp_path / "run", hub, ANSWERS)
    assert "- image: picture, the first one 8x8 pixels, grey" in asked[0] and "(picture)" in asked[0]
    assert "image holds the path of a PNG file, relative to data/" in asked[1] and "images/train/00000.png" in asked[1]
    assert task.meta.baseline_private is not None and task.meta.gates[-1] == "scores"
    files = task.public_files()
    train = pd.read_csv(files["data/train.csv"])
    assert len(train) == row.n_train and all(f"data/{path}" in files for path in train["image"])
    assert sorted(name for name in task.meta.hashes if "images" in name) == ["data/images/test/", "data/images/train/"]
    assert {f"data/images/{name}/ ({n} files)" for name, n in (("train", row.n_train), ("test", row.n_test))} < set(
        name_some(list(files)))


def test_a_task_of_sentences_passes_every_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHKIT_CACHE", str(tmp_path / "cache"))
    put_sentences(tmp_path / "site" / "someone" / "weather-notes")
    with serve_hub(tmp_path / "site", "someone/weather-notes") as hub:
        _, task, asked = make_task(tmp_path / "run", hub, {
            "DatasetProposal": lambda messages: PROPOSAL | {"dataset_id": "someone/weather-notes"},
            "TaskPlan": lambda messages: PLAN | {"target": "kind", "features": ["note"], "title": "Weather notes"},
            "TaskCode": lambda messages: CODE | {
                "baseline_py": SEARCH_WORD, "evaluate_py": EVALUATE.replace("species", "kind")},
        })
    assert "- note: text, 240 distinct" in asked[0]
    assert task.meta.solver_pass_rate is not None and task.meta.solver_pass_rate > 0 and task.meta.gates[-1] == "scores"
    assert task.meta.reference_score is not None and task.meta.baseline_private is not None
    assert task.meta.reference_score > task.meta.baseline_private > (task.meta.trivial_score or 0)


def test_a_picture_is_small_and_plain_or_refused() -> None:
    content = io.BytesIO()
    Pictures.new("RGBA", (400, 100)).save(content, "PNG")
    image = read_picture({"bytes": content.getvalue(), "path": None})
    assert (image.size, image.mode) == ((96, 24), "RGB")
    for broken in (b"", b"no picture", content.getvalue()[:60]):
        with pytest.raises(HubError) as caught:
            read_picture({"bytes": broken})
        assert caught.value.reason == "bad_image"


def test_a_prompt_tells_of_pictures_without_their_bytes() -> None:
    frame = pd.DataFrame({"p": [{"bytes": b"x" * 9999, "path": None}, None], "y": [1, 2]})
    assert sample_rows(frame, 2, seed=0).splitlines()[1:] == ["(picture),1", ",2"]
    with pytest.raises(HubError):
        describe_columns(frame)
