"""Sections 1.7 to 1.9 of the MLGym contract: the turns of a model, its parser, and the two files of a run."""

import json
from pathlib import Path

import pytest
from kits.contract_kit import PERFECT, SANDBOX, WORKSPACE, load_table

from synthkit.core.llm import Reply
from synthkit.gym.agent.parsing import FormatError, parse_reply
from synthkit.gym.episode import run_episode
from synthkit.gym.task import Task
from synthkit.gym.trajectory import Step, Trajectory

COMMANDS = ("open", "goto", "scroll_up", "scroll_down", "create", "search_dir", "search_file", "find_file", "edit",
            "insert", "validate", "submit", "end_of_edit", "end_of_insert")
STEP_KEYS = {"state", "response", "thought", "action", "execution_time", "observation"}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load_table(tmp_path_factory.mktemp("root"))


def say(action: str) -> str:
    """A reply in MLGym's format that holds an action."""
    return f"DISCUSSION\nI go on.\n```\n{action}\n```"


def converse(task: Task, *replies: str, max_steps: int = 20) -> tuple[Trajectory, list[list[dict[str, str]]]]:
    """An episode of these replies, and the messages that each was an answer to."""
    shown: list[list[dict[str, str]]] = []

    def model(messages: list[dict[str, str]]) -> Reply:
        shown.append([dict(message) for message in messages])
        return Reply(replies[len(shown) - 1], tokens_in=7, tokens_out=3, usd=0.25, cached=False)

    return run_episode(task, model, SANDBOX, max_steps=max_steps, name="org/model:1"), shown


@pytest.fixture(scope="module")
def episode(task: Task) -> tuple[Trajectory, list[list[dict[str, str]]]]:
    return converse(task, say("cd data"), say("open train.csv"), "no action", say(PERFECT.replace("> ", "> ../")),
                    say("validate"), say("submit"))


def test_1_7_every_turn_tells_steps_open_file_and_folder(episode: tuple[Trajectory, list]) -> None:
    turns = [shown[-1]["content"].split("\n")[-4:] for shown in (episode[1][at] for at in (0, 1, 2, 4, 5))]
    opened = f"(Open file: {WORKSPACE}/data/train.csv)"
    there = f"(Current directory: {WORKSPACE}/data)"
    assert turns == [
        ["(Current Step: 0, Remaining Steps: 20)", "(Open file: n/a)", f"(Current directory: {WORKSPACE})", "bash-$"],
        ["(Current Step: 1, Remaining Steps: 19)", "(Open file: n/a)", there, "bash-$"],
        ["(Current Step: 2, Remaining Steps: 18)", opened, there, "bash-$"],
        ["(Current Step: 3, Remaining Steps: 17)", opened, there, "bash-$"],
        ["(Current Step: 4, Remaining Steps: 16)", opened, there, "bash-$"],
    ]


def test_1_7_an_action_without_output_is_told_by_a_fixed_line(episode: tuple[Trajectory, list]) -> None:
    assert episode[1][1][-1]["content"].startswith("(the command ended without output)\n(Current Step: 1")


def test_1_7_the_history_is_system_task_and_then_in_turns(episode: tuple[Trajectory, list]) -> None:
    roles = [message["role"] for message in episode[0].messages]
    assert roles == ["system", *["user", "assistant"] * 5] and roles[:2] == [m["role"] for m in episode[1][0]]
    system, first = episode[1][0]
    assert all(name in system["content"] for name in COMMANDS) and "Guess y." in first["content"]


def test_1_7_a_malformed_reply_is_asked_for_again_and_not_kept(episode: tuple[Trajectory, list]) -> None:
    trajectory, shown = episode
    assert [m["role"] for m in shown[3][-2:]] == ["assistant", "user"] and shown[3][-2]["content"] == "no action"
    assert shown[3][:-2] == shown[2] and "no action" not in [m["content"] for m in trajectory.messages]
    assert len(trajectory.steps) == 5 and trajectory.api_calls == 6


@pytest.mark.parametrize("count", [1, 2, 3])
def test_1_7_the_third_malformed_reply_ends_the_run(task: Task, count: int) -> None:
    # Three replies are read; MLGym asks a third time and does not look at what comes.
    trajectory, shown = converse(task, *["no action"] * count, say("submit"))
    assert (trajectory.exit_status, len(shown)) == (
        ("submission_not_found (exit_format)", 3) if count == 3 else ("submission_not_found (submit)", count + 1))


@pytest.mark.parametrize("fault", ["ls", "a\n```\nls\n```\nb\n```\nls\n```", "a `ls` b", "a ```ls``` b", "```\n\n```"])
def test_1_7_a_reply_has_one_block_whose_fences_start_a_line(fault: str) -> None:
    with pytest.raises(FormatError):
        parse_reply(fault)


@pytest.mark.parametrize("reply", [
    "<think>\n```\nrm x\n```\n</think>\nDISCUSSION\n```\nls\n```", "DISCUSSION\n```bash\nls\n```",
    "```\nls\n```\nDISCUSSION",
])
def test_1_7_a_think_block_a_language_tag_and_text_behind_are_allowed(reply: str) -> None:
    assert parse_reply(reply) == ("DISCUSSION", "ls")


@pytest.mark.parametrize("text", ["x = '''\n```\n'''", "```python\nx\n```", "# ```\n```"])
@pytest.mark.parametrize("frame", ["edit 1:1\n{}\nend_of_edit", "insert 1\n{}\nend_of_insert", "cat <<'E' >a\n{}\nE"])
def test_1_7_differs_fences_inside_an_edit_are_its_text(frame: str, text: str) -> None:
    # MLGym counts them as a second block and refuses the reply.
    action = frame.format(text)
    assert parse_reply(say(action)) == ("DISCUSSION\nI go on.", action)


def test_1_8_a_model_may_have_any_name_and_what_it_used_is_counted(episode: tuple[Trajectory, list]) -> None:
    # MLGym ends at the first step with a name that its price table does not know.
    stats = episode[0].to_mlgym()["info"]["model_stats"]
    assert stats == {"total_cost": 1.5, "task_cost": 1.5, "tokens_sent": 42, "tokens_received": 18, "api_calls": 6}
    assert episode[0].model == "org/model:1"


def test_1_9_results_hold_every_score_and_the_baseline(episode: tuple[Trajectory, list], tmp_path: Path) -> None:
    episode[0].save(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "agent": [{"accuracy": 1.0}] * 2, "baseline": {"accuracy": 0.25}}
    assert (tmp_path / "guess.traj").is_file()


def test_1_9_results_without_scores_are_an_empty_list_and_no_baseline(tmp_path: Path) -> None:
    Trajectory("t", "m", "submission_not_found (submit)").save(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == {"agent": []}


def test_1_9_differs_one_key_more_than_mlgyms_holds_what_is_the_kits(episode: tuple[Trajectory, list]) -> None:
    # What MLGym's format has no place for lies under one key of its own, and the environment has its own name.
    traj = episode[0].to_mlgym()
    assert traj.keys() == {"environment", "trajectory", "history", "info", "synthkit"}
    assert traj["environment"] == "synthkit" and traj["info"].keys() == {
        "model_stats", "exit_status", "submission", "score", "summarizer"}
    assert traj["info"]["score"] == [{"accuracy": 1.0}] * 2 and traj["info"]["summarizer"] == {}


def test_1_9_steps_have_mlgyms_keys_and_the_state_is_json_text(episode: tuple[Trajectory, list]) -> None:
    steps = episode[0].to_mlgym()["trajectory"]
    assert [step["action"] for step in steps][:2] == ["cd data", "open train.csv"]
    assert all(step.keys() == STEP_KEYS for step in steps)
    assert json.loads(steps[1]["state"]) == {"open_file": "n/a", "working_dir": f"{WORKSPACE}/data"}


def test_1_9_the_history_names_the_agent_thought_and_action(episode: tuple[Trajectory, list]) -> None:
    history = episode[0].to_mlgym()["history"]
    assert {entry["agent"] for entry in history} == {"primary_0"}
    assert all(entry.keys() == {"role", "content", "agent"} | (
        {"thought", "action"} if entry["role"] == "assistant" else set()) for entry in history)
    assert (history[2]["thought"], history[2]["action"]) == ("DISCUSSION\nI go on.", "cd data")


def test_1_9_a_run_of_mlgym_is_read(tmp_path: Path) -> None:
    step = {"state": "{}", "response": "r", "thought": "t", "action": "ls", "execution_time": 0.3, "observation": "o"}
    (tmp_path / "guess.traj").write_text(json.dumps({
        "environment": "mlgym_main", "trajectory": [step],
        "history": [{"role": "user", "content": "c", "agent": "primary_2", "is_demo": True}],
        "info": {"model_stats": {"total_cost": 2.0, "task_cost": 1.0, "tokens_sent": 3, "tokens_received": 4,
                                 "api_calls": 1},
                 "exit_status": "autosubmission (max_steps)", "submission": None, "score": [{"a": 1}],
                 "summarizer": {}}}))
    (tmp_path / "results.json").write_text('{"agent": [{"a": 1}]}')
    read = Trajectory.load(tmp_path)
    assert read.steps == [Step(**step)] and read.messages == [{"role": "user", "content": "c"}]
    assert (read.final_score, read.baseline, read.tokens_in, read.usd) == ({"a": 1}, {}, 3, 2.0)
