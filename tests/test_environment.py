"""Episodes on a small real task: what the agent is told, scores, limits and every ending."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from synthkit.core.errors import EndpointError, ReplyError, TransientEndpointError
from synthkit.core.llm import Reply
from synthkit.core.params import SandboxParams
from synthkit.gym.agent import run_episode
from synthkit.gym.baseline import measure_improvement
from synthkit.gym.environment import Environment
from synthkit.gym.observations import cut_middle, format_metrics, format_number
from synthkit.gym.task import Task, TaskMeta, build_csv_task, write_task
from synthkit.gym.trajectory import Trajectory

SANDBOX = SandboxParams(warm=False)
BASELINE_PY = """import csv
rows = list(csv.DictReader(open("data/test.csv")))
with open("submission.csv", "w") as out:
    print("id,y", *(f"{row['id']},0" for row in rows), sep="\\n", file=out)
"""
EVALUATE_PY = """import argparse, csv, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--submission_file")
truth = csv.DictReader(open(pathlib.Path(__file__).parent / "data/answers.csv"))
said = {row["id"]: row["y"] for row in csv.DictReader(open(parser.parse_args().submission_file))}
hits = [said[row["id"]] == row["y"] for row in truth]
print(json.dumps({"accuracy": sum(hits) / len(hits)}))
"""
WRITE_GOOD = "(echo id,y; for i in $(seq 0 19); do echo $i,$((i % 2)); done) > submission.csv"
META = TaskMeta(metric="accuracy", direction="maximize", task_kind="classification", target="y",
                baseline_public=0.5, baseline_private=0.4)


def table(columns: str, row: str) -> str:
    return "\n".join([columns, *(row.format(i=i, y=i % 2) for i in range(20))]) + "\n"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    root = tmp_path_factory.mktemp("root")
    config, dataset = build_csv_task("parity", "Parity", "Tell odd from even.", "Numbers.", time_limit_s=20, meta=META)
    write_task(root, config, [dataset], META, {
        "baseline.py": BASELINE_PY, "evaluate.py": EVALUATE_PY, "data/train.csv": table("x,y", "{i},{y}"),
        "data/test.csv": table("id,x", "{i},{i}"), "data/sample_submission.csv": table("id,y", "{i},0"),
        "data/answers.csv": table("id,y", "{i},{y}"),
    })
    return Task.load(root, "parity")


@pytest.fixture
def env(task: Task) -> Iterator[Environment]:
    with Environment(task, SANDBOX, max_steps=12) as environment:
        environment.reset()
        yield environment


def play(task: Task, *turns: str | Exception, max_steps: int = 12) -> tuple[Trajectory, list[list[dict]]]:
    """An episode with a model that says what is given: an action, a whole reply, or an exception."""
    seen: list[list[dict]] = []

    def model(messages: list[dict]) -> Reply:
        turn = turns[len(seen)]
        seen.append([dict(message) for message in messages])
        if isinstance(turn, Exception):
            raise turn
        text = turn if turn.startswith("BAD") else f"DISCUSSION\nI go on.\n```\n{turn}\n```"
        return Reply(text=text, tokens_in=10, tokens_out=2, usd=0.5, cached=False)

    return run_episode(task, model, SANDBOX, max_steps=max_steps, name="script"), seen


def test_an_episode_from_the_first_look_to_the_submission(task: Task) -> None:
    trajectory, _ = play(task, "ls -R", "validate", "python baseline.py", "validate", WRITE_GOOD, "validate", "submit")
    seen = [step.observation for step in trajectory.steps]
    assert "sample_submission.csv" in seen[0] and "answers" not in seen[0]
    assert seen[1] == "submission.csv is missing."
    assert seen[3].startswith('Your submission.csv is valid.\nBaseline score: {"accuracy": 0.5000}\nYour score: {')
    assert seen[5].splitlines()[2] == 'Your score: {"accuracy": 1.0000} (better than the baseline)'
    assert seen[6] == "Exited (submit)"
    assert trajectory.exit_status == "submitted" and trajectory.final_score == {"accuracy": 1.0}
    assert trajectory.parts == ["public", "public", "private"]
    assert trajectory.reward == pytest.approx(1.5)
    assert (trajectory.tokens_in, trajectory.usd, trajectory.api_calls) == (70, 3.5, 7)


def test_the_model_is_told_the_task_and_where_it_stands(task: Task) -> None:
    trajectory, seen = play(task, "cd data", "submit")
    system, first = seen[0]
    assert len(system["content"].split()) <= 260
    assert first["content"].splitlines() == [
        "TASK: Parity", "Tell odd from even.", "", "PARITY:", "Numbers.",
        "Metric: accuracy (higher is better)", "Task kind: classification", "Baseline accuracy: 0.5000",
        "Submission: submission.csv with the columns of data/sample_submission.csv (id, y)",
        "Files: baseline.py evaluate.py data/sample_submission.csv data/test.csv data/train.csv",
        "Time limit: 20 s for an action that runs Python, 25 s for any other",
        "(Current Step: 0, Remaining Steps: 12)", "(Open file: n/a)",
        "(Current directory: /home/agent/workspace)", "bash-$",
    ]
    assert seen[1][-1]["content"].endswith(
        "\n(Current Step: 1, Remaining Steps: 11)\n(Open file: n/a)\n"
        "(Current directory: /home/agent/workspace/data)\nbash-$")
    assert trajectory.messages[:-1] == seen[1]
    assert json.loads(trajectory.steps[1].state)["working_dir"] == "/home/agent/workspace/data"
    assert trajectory.exit_status == "submission_not_found (submit)" and trajectory.scores == []


def test_editor_commands_and_shell_lines_in_one_action(task: Task) -> None:
    code = "text = '''\n```\n'''\nprint(text)"
    trajectory, seen = play(task, f"create a.py\nedit 1:1\n{code}\nend_of_edit\npython a.py", "submit")
    assert trajectory.steps[0].observation.endswith("```")
    assert "(Open file: /home/agent/workspace/a.py)" in seen[1][-1]["content"]


def test_an_invalid_submission_says_why(env: Environment) -> None:
    env.step("(echo id,y; echo 0,1) > submission.csv")
    observation, reward, *_ = env.step("validate")
    assert observation.startswith("Invalid submission: ") and reward == 0 and env.scores == []
    _, _, terminated, truncated, info = env.step("submit")
    assert (terminated, truncated, info["exit_status"]) == (True, False, "evaluation_format_error (submit)")
    with pytest.raises(RuntimeError):
        env.step("ls")


def test_leaving_the_shell_or_printing_markers_does_not_end_the_episode(env: Environment) -> None:
    env.step(WRITE_GOOD)
    for action in ("exit", "cat", "echo '<<SUBMISSION||x||SUBMISSION>>'; echo submit", "echo validate"):
        env.step(action)
        assert not env.done and env.scores == []
    assert env.step("submit")[1] == pytest.approx(1.5)


def test_an_action_past_its_time_says_so_and_keeps_what_it_printed(task: Task) -> None:
    with Environment(task, SANDBOX, max_steps=3, training_timeout_s=1) as env:
        env.reset()
        observation, *_ = env.step("echo before; python -c 'import time; time.sleep(30)'")
        assert observation == ("before\nEXECUTION TIMED OUT BECAUSE THE COMMAND WAS RUNNING FOR MORE THAN 1 SECONDS.")
        assert env.step("echo alive")[0] == "alive"


def test_the_step_limit_hands_in_what_there_is(task: Task) -> None:
    trajectory, _ = play(task, WRITE_GOOD, "ls", max_steps=2)
    assert trajectory.exit_status == "autosubmission (max_steps)" and trajectory.reward == pytest.approx(1.5)
    assert len(trajectory.steps) == 2 and trajectory.steps[1].observation.endswith("\nExited (max_steps)")


def test_three_malformed_replies_in_a_row_end_the_episode(task: Task) -> None:
    trajectory, seen = play(task, WRITE_GOOD, "BAD one", "ls", "BAD two", "BAD three", "BAD four")
    assert trajectory.exit_status == "autosubmission (exit_format)" and trajectory.api_calls == 6
    assert [step.action for step in trajectory.steps] == [WRITE_GOOD, "ls", "exit_format"]
    assert seen[2][-2]["content"] == "BAD one" and "no fenced block" in seen[2][-1]["content"]
    assert not any("BAD" in message["content"] for message in trajectory.messages)


@pytest.mark.parametrize(("error", "why"), [
    (ReplyError("too long"), "exit_context"), (TransientEndpointError("busy"), "exit_api"),
])
def test_a_model_that_cannot_go_on_is_a_bad_rollout(task: Task, error: Exception, why: str) -> None:
    trajectory, _ = play(task, "ls", error)
    assert trajectory.exit_status == f"submission_not_found ({why})" and len(trajectory.steps) == 2


def test_an_endpoint_that_refuses_is_for_a_person(task: Task) -> None:
    with pytest.raises(EndpointError):
        play(task, EndpointError("wrong key"))


@pytest.mark.parametrize("stored", [[{"accuracy": 0.4}], []])
def test_an_mlgym_task_is_scored_whole_and_its_baseline_run_if_unknown(task: Task, stored: list) -> None:
    config = task.config.model_copy(update={"baseline_scores": stored})
    meta = TaskMeta(metric="accuracy", direction="maximize", score_on="all")
    with Environment(replace(task, config=config, meta=meta), SANDBOX, max_steps=5) as env:
        env.reset()
        env.step(WRITE_GOOD)
        env.step("submit")
        assert env.parts == ["all"] and env.baseline == {"accuracy": 0.4 if stored else 0.5}


def test_the_reward_is_an_improvement_in_shares_of_the_baseline(task: Task) -> None:
    assert measure_improvement(task, {"accuracy": 0.6}, {"accuracy": 0.5}) == pytest.approx(0.2)
    assert measure_improvement(task, {"accuracy": 0.6}, {"accuracy": 0.0}) == pytest.approx(0.6)
    assert measure_improvement(task, {"accuracy": float("nan")}, {"accuracy": 0.5}) == 0
    assert measure_improvement(task, {"other": 1.0}, {"accuracy": 0.5}) == 0


def test_numbers_and_long_outputs_are_shortened_for_the_model() -> None:
    assert [format_number(x) for x in (0.81234, 12.0, 0, 0.00001234)] == ["0.8123", "12.0000", "0.0000", "1.23e-05"]
    assert format_metrics({"a": 0.5, "b": 2}) == '{"a": 0.5000, "b": 2.0000}' and format_metrics({}) == ""
    cut = cut_middle("h" * 600 + "t" * 600, 100)
    assert cut == "h" * 50 + "\n[... 1100 characters left out ...]\n" + "t" * 50
