"""The scripted teacher's library: its good task code runs on the real data. Its flaws: test_planted_faults.py."""

import json
import runpy
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from kits.library_kit import GOOD, NEAR, REFUSALS, lay_out, read_frame

from synthkit.core.errors import HubError
from synthkit.core.hub import HubClient
from synthkit.core.params import DatasetsParams, HubParams
from synthkit.gym.scoring.metrics import build_metrics, normalise_score
from synthkit.offline.catalogue import read_catalogue
from synthkit.offline.data import open_data
from synthkit.offline.hub_server import open_hub
from synthkit.offline.library import DatasetIdea, Entry, find_topic, load_library
from synthkit.records import TaskCode
from synthkit.stages.common.similarity import TextIndex
from synthkit.stages.datasets.forms import TaskPlan
from synthkit.stages.datasets.table import apply_plan, check_plan
from synthkit.stages.self_debug.static_checks import GateRefusal, check_static
from synthkit.stages.topics.grid import read_grid


@pytest.fixture(scope="module")
def hub() -> Iterator[HubClient]:
    server = open_hub(open_data())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield HubClient(HubParams(endpoint=f"http://127.0.0.1:{server.server_address[1]}"))
    server.shutdown()
    server.server_close()


def run_here(script: str) -> None:
    """Run a script in this interpreter, which has the libraries loaded; at most three seconds."""
    def stop(number: int, frame: object) -> None:
        raise TimeoutError("timed out")

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(3)
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


class TaskFolder:
    """Runs a task's scripts in its folder, as the sandbox would, but in this process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        monkeypatch.chdir(folder)

    def run_baseline(self) -> pd.DataFrame:
        answers = (self.folder / "data" / "answers.csv").rename(self.folder / "hidden.csv")
        try:
            run_here("baseline.py")
        finally:
            answers.rename(self.folder / "data" / "answers.csv")
        return pd.read_csv("submission.csv")

    def evaluate(self, submission: str) -> str:
        self.monkeypatch.setattr("sys.argv", ["evaluate.py", "--submission_file", submission])
        self.capsys.readouterr()
        run_here("evaluate.py")
        return self.capsys.readouterr().out

    def score(self, submission: str, metric: str) -> float:
        scores = json.loads(self.evaluate(submission))
        assert list(scores) == [metric]
        return scores[metric]


@pytest.fixture
def task_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> TaskFolder:
    return TaskFolder(tmp_path, monkeypatch, capsys)


def find_fault(entry: Entry, files: dict[str, str], task_folder: TaskFolder) -> str:
    """What a gate would say of a draft; empty when nothing is wrong."""
    try:
        check_static(TaskCode.model_validate(files))
        submission = task_folder.run_baseline()
    except GateRefusal as refusal:
        return f"{refusal.reason}: {refusal.evidence}"
    except Exception:
        return traceback.format_exc()
    if list(submission["id"]) != list(pd.read_csv("data/answers.csv")["id"]):
        return "bad_submission"
    return find_fault_of_scores(entry.plan.metric, task_folder)


def find_fault_of_scores(metric: str, task_folder: TaskFolder) -> str:
    output = task_folder.evaluate("data/answers.csv")
    try:
        scores = json.loads(output)
    except ValueError:
        return f"evaluate_output: {output}"
    if list(scores) != [metric]:
        return f"wrong_metric: {output}"
    target = pd.read_csv("data/answers.csv").iloc[:, 1]
    guess = pd.read_csv("submission.csv").iloc[:, 1]
    own = build_metrics()[metric].compute(target.to_numpy(), guess.to_numpy())
    if task_folder.score("submission.csv", metric) != pytest.approx(own):
        return "metric_mismatch"
    trivial = task_folder.score("data/sample_submission.csv", metric)
    way = normalise_score(own, trivial, build_metrics()[metric].perfect)
    return "" if 0.02 <= way <= 0.98 else "baseline_too_weak"


def test_the_library_is_wide_enough():
    library, grid = load_library().values(), read_grid("params/topic_grid.yaml")
    cells = {cell.key for cell in grid.cells()}
    assert len(library) >= 32 and len({entry.title for entry in library}) == len(library)
    assert {(e.area, e.modality, e.task_type, e.difficulty) for e in library} <= cells
    assert min(Counter(e.area for e in library).values()) >= 3 and {e.area for e in library} == set(grid.areas)
    assert len({e.dataset.dataset_id for e in library if e.plan}) >= 14
    assert len({flaw.kind for e in library for flaw in e.flaws if flaw.evidence}) >= 6
    assert sum(any(not flaw.evidence for flaw in e.flaws) for e in library) in (2, 3)
    assert not any(read_catalogue()[e.dataset.dataset_id].held_out for e in library
                   if e.slug in set(GOOD) - set(NEAR))


def test_topics_differ_and_rewordings_do_not():
    texts: list[str] = []
    for entry in load_library().values():
        assert TextIndex(texts).find_near_duplicate(f"{entry.title}. {entry.summary}", 0.6)[0] is None, entry.slug
        texts.append(f"{entry.title}. {entry.summary}")
        if entry.rewording:
            assert TextIndex(texts).find_near_duplicate(f"{entry.rewording}. {entry.summary}", 0.8)[0] == len(texts) - 1
            assert find_topic(entry.rewording) is entry


def look_up(hub: HubClient, idea: DatasetIdea) -> None:
    """As stage 02 does it: every candidate is verified, and none at all is a refusal too."""
    params = DatasetsParams()
    candidates = hub.find(idea.dataset_id, idea.search_words, params.search_limit)
    if not candidates:
        raise HubError("not_found", "there are no near matches")
    for candidate in candidates:
        hub.verify(candidate.id, params.licences, params.unknown_licence, params.max_download_mb)


@pytest.mark.parametrize("slug", [slug for slug in REFUSALS if REFUSALS[slug] not in ("benchmark", "too_small")])
def test_the_hub_refuses_what_it_should(slug, hub):
    with pytest.raises(HubError) as caught:
        look_up(hub, load_library()[slug].dataset)
    assert caught.value.reason == REFUSALS[slug]


def test_too_small_and_held_out_are_refused_later():
    entry = load_library()["state-crime"]
    plan = TaskPlan.model_validate(entry.plan.model_dump())
    with pytest.raises(HubError) as caught:
        check_plan(apply_plan(read_frame(entry.dataset.dataset_id), plan), plan, DatasetsParams())
    assert caught.value.reason == "too_small"
    assert read_catalogue()[load_library()["tumour-diagnosis"].dataset.dataset_id].held_out


def test_a_wrong_name_is_found_by_its_search_words(hub):
    for slug, found in NEAR.items():
        idea = load_library()[slug].dataset
        candidates = hub.find(idea.dataset_id, idea.search_words, 8)
        assert [candidate.id for candidate in candidates if not candidate.exact] == [found]


@pytest.mark.parametrize("slug", GOOD)
def test_a_good_task_runs_and_leaves_room(slug, task_folder):
    entry = load_library()[slug]
    files = entry.good_files()
    lay_out(entry, files, task_folder.folder)
    assert find_fault(entry, files, task_folder) == ""
    assert task_folder.score("data/answers.csv", entry.plan.metric) == build_metrics()[entry.plan.metric].perfect
    answers = pd.read_csv("data/answers.csv")
    for broken in (answers.iloc[1:], answers.rename(columns={"id": "row"}), answers.assign(id=0),
                   answers.assign(**{entry.plan.target: None})):
        broken.to_csv("broken.csv", index=False)
        with pytest.raises(SystemExit) as stopped:
            task_folder.evaluate("broken.csv")
        assert isinstance(stopped.value.code, str)
