"""Trajectories in MLGym's two files: what stands in them, and that they read back."""

import json
from pathlib import Path

import pytest

from synthkit.core.errors import RecordError
from synthkit.core.llm import Reply
from synthkit.gym.trajectory import Step, Trajectory, estimate_tokens
from synthkit.gym.trajectory.atif import write_atif

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


def test_files_have_mlgyms_form_as_in_section_1_9_of_the_contract(tmp_path: Path) -> None:
    make_trajectory().save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "wine.traj"]
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "agent": [{"accuracy": 0.9}, {"accuracy": 0.8}], "baseline": {"accuracy": 0.5}}
    traj = json.loads((tmp_path / "wine.traj").read_text())
    assert set(traj) - {"synthkit"} == {"environment", "trajectory", "history", "info"}
    assert all(set(message) == {"role", "content", "agent"} for message in traj["history"][:-1])
    assert set(traj["trajectory"][0]) == {"state", "response", "thought", "action", "execution_time", "observation"}
    assert traj["history"][-1] == {"role": "assistant", "content": REPLY, "agent": "primary_0", "thought": "I submit.",
                                   "action": "submit"}
    assert set(traj["info"]) == {"model_stats", "exit_status", "submission", "score", "summarizer"}
    assert traj["info"]["model_stats"] == {"total_cost": 0.01, "task_cost": 0.01, "tokens_sent": 10,
                                           "tokens_received": 5, "api_calls": 1}
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


def test_tokens_are_estimated_from_bytes() -> None:
    assert estimate_tokens([{"role": "user", "content": "abcdefgh"}, {"role": "user", "content": "é\udcff"}]) == 10


ATIF_STEP = {"step_id", "source", "message", "observation"}
ATIF_AGENT_STEP = ATIF_STEP | {"model_name", "reasoning_content", "tool_calls", "metrics"}


def check_atif(document: dict) -> None:
    """The rules of ATIF-v1.8: no other keys, steps numbered from 1, a result in the step of its call."""
    assert set(document) <= {"schema_version", "session_id", "agent", "steps", "final_metrics"}
    assert document["schema_version"] == "ATIF-v1.8" and set(document["agent"]) <= {"name", "version", "model_name"}
    assert [step["step_id"] for step in document["steps"]] == list(range(1, len(document["steps"]) + 1))
    for step in document["steps"]:
        assert set(step) <= (ATIF_AGENT_STEP if step["source"] == "agent" else ATIF_STEP)
        assert step["source"] in ("system", "user", "agent") and isinstance(step["message"], str)
        assert set(step.get("metrics", {})) <= {"prompt_tokens", "completion_tokens", "cost_usd"}
        calls = step.get("tool_calls", [])
        assert all(set(call) == {"tool_call_id", "function_name", "arguments"} for call in calls)
        for result in step.get("observation", {"results": []})["results"]:
            assert set(result) <= {"source_call_id", "content"} and "content" in result
            assert result.get("source_call_id") in [None, *(call["tool_call_id"] for call in calls)]
    assert set(document["final_metrics"]) == {"total_prompt_tokens", "total_completion_tokens", "total_cost_usd",
                                              "total_steps"}
    assert document["final_metrics"]["total_steps"] == len(document["steps"])
    assert json.loads(json.dumps(document)) == document


def test_an_episode_is_exported_as_atif() -> None:
    trajectory = make_trajectory()
    trajectory.steps = []
    used = [Reply("", 6, 3, 0.01, cached=False)]
    edit = "edit 1:2\nx = 1\nend_of_edit"
    trajectory.add(Step("{}", f"<think>Hm.</think>I edit.\n```\n{edit}\n```", "I edit.", edit, 0.1, "done"), used)
    trajectory.add(Step("{}", "BAD", "", "exit_cost", 0.0, "Exited (exit_cost)"), used * 2)
    document = write_atif(trajectory)
    check_atif(document)
    system, task, first, last = document["steps"]
    assert (system["source"], system["message"], task["source"]) == ("system", "Be.", "user")
    assert (first["source"], first["message"], first["reasoning_content"]) == ("agent", "I edit.", "Hm.")
    arguments = {"start": 1, "end": 2, "text": "x = 1"}
    assert first["tool_calls"] == [{"tool_call_id": "call_1", "function_name": "edit", "arguments": arguments}]
    assert first["observation"]["results"] == [{"source_call_id": "call_1", "content": "done"}]
    assert first["metrics"] == {"prompt_tokens": 6, "completion_tokens": 3, "cost_usd": 0.01}
    assert last["message"] == "BAD" and "tool_calls" not in last and last["metrics"]["prompt_tokens"] == 12
    assert last["observation"]["results"] == [{"content": "Exited (exit_cost)"}]
    assert document["agent"]["model_name"] == "scripted-teacher"


def test_unknown_metrics_are_left_out_of_atif(tmp_path: Path) -> None:
    trajectory = make_trajectory()
    trajectory.save(tmp_path)
    document = write_atif(Trajectory.load(tmp_path))
    check_atif(document)
    assert "metrics" not in document["steps"][2] and document["final_metrics"]["total_prompt_tokens"] == 10
    assert document["steps"][2]["tool_calls"][0]["function_name"] == "submit"
