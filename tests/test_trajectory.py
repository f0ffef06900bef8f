"""Trajectories in MLGym's two files: what stands in them, and that they read back."""

import json
from pathlib import Path

import pytest

from synthkit.core.errors import RecordError
from synthkit.gym.history import keep_last_five
from synthkit.gym.trajectory import Step, Trajectory, estimate_tokens

REPLY = "DISCUSSION\nI submit.\n```\nsubmit\n```"


def make_trajectory() -> Trajectory:
    state = json.dumps({"open_file": "n/a", "working_dir": "/home/agent/workspace"})
    return Trajectory(
        "wine", "scripted-teacher", "submitted", [Step(state, REPLY, "I submit.", "submit", 0.1, "Exited (submit)")],
        [{"role": "system", "content": "Be."}, {"role": "user", "content": "TASK: wine \x1b \udcff"},
         {"role": "assistant", "content": REPLY}],
        [{"accuracy": 0.9}, {"accuracy": 0.8}], ["public", "private"], {"accuracy": 0.5}, seed=3, reward=0.6,
        tokens_in=10, tokens_out=5, usd=0.01, api_calls=1, seconds=1.5, n_tokens=12,
    )


def test_reads_back_the_same(tmp_path: Path) -> None:
    made = make_trajectory()
    made.save(tmp_path)
    assert Trajectory.load(tmp_path) == made


def test_files_have_mlgyms_form(tmp_path: Path) -> None:
    make_trajectory().save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "wine.traj"]
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "agent": [{"accuracy": 0.9}, {"accuracy": 0.8}], "baseline": {"accuracy": 0.5}}
    traj = json.loads((tmp_path / "wine.traj").read_text())
    assert set(traj) - {"synthkit"} == {"environment", "trajectory", "history", "info"}
    assert set(traj["trajectory"][0]) == {"state", "response", "thought", "action", "execution_time", "observation"}
    assert traj["history"][-1] == {"role": "assistant", "content": REPLY, "agent": "primary", "thought": "I submit.",
                                   "action": "submit"}
    assert set(traj["info"]) == {"model_stats", "exit_status", "submission", "score", "summarizer"}
    assert traj["info"]["score"] == [{"accuracy": 0.9}, {"accuracy": 0.8}]
    assert json.loads(traj["trajectory"][0]["state"])["working_dir"] == "/home/agent/workspace"


@pytest.mark.parametrize(("status", "final"), [
    ("submitted", {"accuracy": 0.8}), ("autosubmission (max_steps)", {"accuracy": 0.8}),
    ("submission_not_found (submit)", None), ("evaluation_format_error (exit_format)", None), ("skipped", None),
])
def test_the_final_score_is_that_of_what_was_handed_in(status: str, final: dict | None) -> None:
    trajectory = make_trajectory()
    trajectory.exit_status = status
    assert trajectory.final_score == final


def test_reads_a_trajectory_of_mlgym_itself(tmp_path: Path) -> None:
    make_trajectory().save(tmp_path)
    path = tmp_path / "wine.traj"
    foreign = json.loads(path.read_text())
    del foreign["synthkit"]
    path.write_text(json.dumps(foreign | {"environment": "mlgym_main"}))
    assert Trajectory.load(tmp_path).final_score == {"accuracy": 0.8}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"info": {}, "trajectory": [{}], "history": []}'])
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "wine.traj").write_text(content)
    with pytest.raises(RecordError, match="wine.traj"):
        Trajectory.load(tmp_path)


def test_older_observations_are_shortened_as_mlgym_does() -> None:
    messages = [{"role": "system", "content": "s"}]
    for at in range(8):
        messages += [{"role": "user", "content": f"o{at}\nx"}, {"role": "assistant", "content": f"a{at}"}]
    shown = [m["content"] for m in keep_last_five(messages) if m["role"] == "user"]
    assert shown == ["o0\nx", *["Old output omitted (2 lines)"] * 2, "o3\nx", "o4\nx", "o5\nx", "o6\nx", "o7\nx"]
    assert [m for m in keep_last_five(messages) if m["role"] != "user"] == [m for m in messages if m["role"] != "user"]
    assert keep_last_five(messages[:6]) == messages[:6]


def test_tokens_are_estimated_from_bytes() -> None:
    assert estimate_tokens([{"role": "user", "content": "abcdefgh"}, {"role": "user", "content": "é\udcff"}]) == 10
