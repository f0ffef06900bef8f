"""The library's planted faults: each is refused by its own gate, on the topic's real data, and sound tasks pass all.

`make test` tries one fault for each gate and two sound tasks; `make faults` tries all (SYNTHKIT_FAULTS=all).
"""

import os
import re
from pathlib import Path
from typing import get_args

import pytest
from kits.library_kit import GOOD, LEAKING, PARAMS, SANDBOX, SOUND, build_proposal, lay_out
from kits.places import ROOT

from synthkit.offline.library import Entry, Flaw, Gate, load_library
from synthkit.records import TaskCode, Verdict
from synthkit.stages.self_debug.attempts import compare_code
from synthkit.stages.self_debug.candidate import Candidate, open_candidate
from synthkit.stages.self_debug.gates import GATES, run_gates

ALL = os.environ.get("SYNTHKIT_FAULTS") == "all"
FAULTS = [(slug, flaw) for slug in GOOD for flaw in load_library()[slug].flaws]
# What a fault in a teacher's code cannot meet: the gate of the data.
ELSEWHERE = {"leaks"}
def choose_faults() -> list[tuple[str, Flaw]]:
    """All, or the first of each gate, without the one that has to run out of its time."""
    if ALL:
        return FAULTS
    first: dict[str, tuple[str, Flaw]] = {}
    for slug, flaw in FAULTS:
        if flaw.reason != "baseline_timeout":
            first.setdefault(flaw.gate, (slug, flaw))
    return list(first.values())


def try_files(entry: Entry, files: dict[str, str], folder: Path, *, limit_s: int = 300,
              seed: int = 0) -> tuple[list[Verdict], Candidate]:
    lay_out(entry, files, folder, seed)
    rows = [sum(1 for _ in (folder / f"data/{name}.csv").open()) - 1 for name in ("train", "test")]
    with open_candidate(build_proposal(entry, *rows), TaskCode(**files), folder / "data", time_limit_s=limit_s,
                    margin=PARAMS.margin, leak=PARAMS.leak, seed=0, sandbox=SANDBOX) as candidate:
        return run_gates(candidate), candidate


def test_the_library_holds_faults_for_every_gate_that_a_teachers_code_can_meet() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    counts = map(int, re.findall(r"(\d+) planted faults of (\d+) kinds .*? (\d+) sound", text)[0])
    assert [len(FAULTS), len({flaw.kind for _, flaw in FAULTS}), len(SOUND)] == [*counts] and LEAKING
    assert {flaw.gate for _, flaw in FAULTS} == {name for name, _ in GATES} - ELSEWHERE == set(get_args(Gate))
    # Each kind of corrupt submission is accepted by one of the evaluations.
    shown = {sign for _, flaw in FAULTS if flaw.gate == "corrupt" for sign in flaw.evidence}
    assert shown == {"wrong_columns", "missing_rows", "repeated_ids", "missing_values", "no_rows", "text_for_numbers"}
    # Not every draft is flawed: some tasks pass at their first attempt.
    assert sum(not load_library()[slug].flaws for slug in SOUND) >= 3


@pytest.mark.parametrize(("slug", "flaw"), choose_faults(), ids=lambda value: getattr(value, "reason", value))
def test_a_fault_is_refused_by_its_own_gate(slug: str, flaw: Flaw, tmp_path: Path) -> None:
    entry = load_library()[slug]
    files = entry.draft([flaw])
    assert flaw.is_in(files) and not flaw.is_in(entry.good_files())
    assert compare_code(TaskCode(**entry.good_files()), TaskCode(**files))
    verdicts, _ = try_files(entry, files, tmp_path, limit_s=6 if flaw.reason == "baseline_timeout" else 300)
    said = verdicts[-1]
    assert (said.gate, said.reason) == (flaw.gate, flaw.reason), said
    # What the scripted teacher mends it by is in what a repair request shows.
    assert not flaw.evidence or any(sign in f"{said.reason} {said.evidence}" for sign in flaw.evidence)


@pytest.mark.parametrize("slug", SOUND if ALL else SOUND[:2])
def test_a_sound_task_passes_every_gate(slug: str, tmp_path: Path) -> None:
    entry = load_library()[slug]
    verdicts, candidate = try_files(entry, entry.good_files(), tmp_path)
    assert [verdict.reason for verdict in verdicts] == [None] * len(GATES), verdicts[-1]
    assert candidate.difficulty and 0 < candidate.difficulty.pass_rate <= 1 and candidate.difficulty.gain > 0


def test_a_baseline_that_no_model_beats_leaves_no_headroom(tmp_path: Path) -> None:
    """Of a small table: with these rows for testing, no generic model is better than the baseline."""
    entry = load_library()["strike-duration"]
    verdicts, _ = try_files(entry, entry.good_files(), tmp_path, seed=2)
    assert (verdicts[-1].gate, verdicts[-1].reason) == ("headroom", "no_headroom")


@pytest.mark.parametrize("slug", LEAKING)
def test_a_plan_that_gives_the_labels_away_is_refused_for_good(slug: str, tmp_path: Path) -> None:
    entry = load_library()[slug]
    verdicts, _ = try_files(entry, entry.good_files(), tmp_path)
    assert [(said.gate, said.reason, said.final) for said in verdicts] == [("leaks", entry.leak, True)]
