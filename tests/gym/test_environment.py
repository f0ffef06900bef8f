"""Episodes on a small real task: what the agent is told, limits of an action, scores, tasks of MLGym."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kits.gym_kit import SANDBOX, WRITE_GOOD, make_model, make_task

from synthkit.core.text import cut_middle
from synthkit.gym.agent.observations import format_metrics, format_number
from synthkit.gym.environment import Environment
from synthkit.gym.episode import run_episode
from synthkit.gym.scoring.baseline import measure_improvement
from synthkit.gym.task import Task
from synthkit.gym.task.config import TaskMeta
from synthkit.gym.trajectory import Trajectory


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return make_task(tmp_path_factory.mktemp("root"))


@pytest.fixture
def env(task: Task) -> Iterator[Environment]:
    with Environment(task, SANDBOX, max_steps=12) as environment:
        environment.reset()
        yield environment


def play(task: Task, *turns: str | Exception, max_steps: int = 12) -> tuple[Trajectory, list[list[dict]]]:
    model, seen = make_model(*turns)
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
        "Time limit: 300 s for an action that runs Python, 25 s for any other",
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
        observation, *_ = env.step("echo before; python -c 'import time; time.sleep(600)'")
        assert observation == ("before\nEXECUTION TIMED OUT BECAUSE THE COMMAND WAS RUNNING FOR MORE THAN 1 SECONDS.")
        assert env.step("echo alive")[0] == "alive"


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


def test_an_episode_may_have_so_much_processor_time(task: Task) -> None:
    with Environment(task, SANDBOX.model_copy(update={"episode_cpu_s": 1}), max_steps=9) as env:
        env.reset()
        assert env.step(WRITE_GOOD)[2:4] == (False, False)
        observation, reward, terminated, truncated, info = env.step("sh -c 'ulimit -t 2; while :; do :; done'")
        assert (terminated, truncated, info["exit_status"]) == (False, True, "autosubmission (exit_cpu)")
        assert observation.endswith("Exited (exit_cpu)") and reward == pytest.approx(1.5)
