"""Sections 1.3, 1.5, 1.6 and 1.8 of the MLGym contract: reset, validate and submit, every ending, time limits."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from kits.contract_kit import HALF, PERFECT, SANDBOX, WORKSPACE, load_duel, load_table, play, print_metrics

from synthkit.gym.environment import Environment
from synthkit.gym.task import Task

FORCED = ["submit", "exit_context", "exit_cost", "exit_error", "exit_format", "exit_api"]
EMPTY = {"step": 0, "exit_status": "", "scores": [], "parts": []}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load_table(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def shared(task: Task) -> Iterator[Environment]:
    with Environment(task, SANDBOX, max_steps=10_000) as env:
        env.reset()
        yield env


@pytest.fixture(scope="module")
def hurried(task: Task) -> Iterator[Environment]:
    """For what is to be timed out alone: a second is too short for a slow machine's interpreter."""
    with Environment(task, SANDBOX, max_steps=10_000, training_timeout_s=1) as env:
        env.reset()
        yield env


def test_1_3_a_reset_leaves_starter_code_and_data_and_nothing_of_the_baseline(tmp_path: Path) -> None:
    with Environment(load_table(tmp_path, baseline_scores=[]), SANDBOX) as env:
        env.reset()
        assert env.step("ls -A; ls data; pwd")[0].splitlines() == [
            "baseline.py", "data", "evaluate.py", "train.csv", WORKSPACE]
        assert env.baseline == {"accuracy": 0.25}


def test_1_3_a_reset_takes_back_everything(task: Task) -> None:
    with Environment(task, SANDBOX) as env:
        told, info = env.reset()
        assert info == EMPTY
        env.step(f"{HALF}; echo x >> data/train.csv; rm baseline.py; cd /tmp; touch here; x=5; export Y=6")
        env.step("open train.csv")
        env.step("validate")
        env.step("submit")
        assert env.reset() == (told, EMPTY) and not env.done
        assert env.state() == {"open_file": "n/a", "working_dir": WORKSPACE}
        assert env.step("ls; cat data/train.csv; echo [$x$Y]; ls /tmp/here")[0].splitlines()[:6] == [
            "baseline.py", "data", "evaluate.py", "id,y", "9,a", "[]"]


def test_1_3_a_baseline_that_fails_is_no_baseline(tmp_path: Path) -> None:
    task = load_table(tmp_path, baseline_scores=[])
    (tmp_path / "data/guess/baseline.py").write_text("raise SystemExit(1)")
    env, seen = play(task, PERFECT, "validate")
    assert env.baseline == {} and "Baseline score: NA" in seen[1]


def test_1_5_a_task_without_a_baseline_says_so(tmp_path: Path) -> None:
    _, seen = play(load_table(tmp_path, baseline_scores=[], baseline_paths=[]), PERFECT, "validate")
    assert seen[1].splitlines()[1:] == ["Baseline score: NA", 'Your score: {"accuracy": 1.0000}']


def test_1_5_validate_is_unlimited_and_shows_baseline_and_score(task: Task) -> None:
    env, seen = play(task, HALF, *["validate"] * 3)
    assert seen[1] == seen[2] == seen[3] == (
        'Your submission.csv is valid.\nBaseline score: {"accuracy": 0.2500}\n'
        'Your score: {"accuracy": 0.5000} (better than the baseline)')
    assert env.scores == [{"accuracy": 0.5}] * 3 and not env.done


def test_1_5_submit_adds_one_more_entry_than_validates(task: Task) -> None:
    env, seen = play(task, HALF, "validate", "validate", PERFECT, "submit")
    assert env.scores == [{"accuracy": 0.5}, {"accuracy": 0.5}, {"accuracy": 1.0}]
    assert (env.exit_status, seen[-1]) == ("submitted", "Exited (submit)")


def test_1_5_an_unscored_validate_adds_nothing_and_the_episode_goes_on(task: Task) -> None:
    env, seen = play(task, "validate", PERFECT, "submit")
    assert seen[0] == "submission.csv is missing." and env.scores == [{"accuracy": 1.0}]


@pytest.mark.parametrize("why", FORCED)
def test_1_5_an_ending_hands_in_what_there_is(task: Task, why: str) -> None:
    env, seen = play(task, PERFECT, why)
    assert env.exit_status == ("submitted" if why == "submit" else f"autosubmission ({why})")
    assert (env.scores, seen[1]) == ([{"accuracy": 1.0}], f"Exited ({why})")


@pytest.mark.parametrize("why", FORCED)
def test_1_5_an_ending_without_a_submission(task: Task, why: str) -> None:
    env, _ = play(task, why)
    assert (env.exit_status, env.scores, env.reward) == (f"submission_not_found ({why})", [], 0)


@pytest.mark.parametrize("why", ["submit", "exit_cost"])
def test_1_5_an_ending_with_an_unreadable_evaluation(tmp_path: Path, why: str) -> None:
    env, _ = play(load_table(tmp_path, "print('no score')"), PERFECT, why)
    assert (env.exit_status, env.scores) == (f"evaluation_format_error ({why})", [])


@pytest.mark.parametrize(("action", "status"), [("skip", "skipped"), ("exit_forfeit", "exit_forfeit")])
def test_1_5_giving_up_is_not_evaluated(task: Task, action: str, status: str) -> None:
    env, _ = play(task, PERFECT, action)
    assert (env.exit_status, env.scores, env.done) == (status, [], True)


def test_1_5_differs_a_shell_that_is_left_is_replaced_and_no_score_is_lost(task: Task) -> None:
    # In MLGym `exit` is early_exit: the run is over and what lay there is not evaluated.
    env, seen = play(task, PERFECT, "exit", "exec true", "kill -9 $$", "logout; exit 3", "echo here; pwd", "submit")
    assert seen[5].splitlines() == ["here", WORKSPACE] and env.scores == [{"accuracy": 1.0}]


def test_1_5_differs_early_exit_is_evaluated(task: Task) -> None:
    # Nothing in an action brings it about; when no session can be started any more, the work still counts.
    with Environment(task, SANDBOX) as env:
        env.reset()
        env.step(PERFECT)
        assert env.finish("early_exit") == "Exited (early_exit)"
    assert (env.exit_status, env.scores) == ("autosubmission (early_exit)", [{"accuracy": 1.0}])


@pytest.mark.parametrize("action", ["", "  \n\t", "# only a comment", ":"])
def test_1_5_differs_an_empty_action_does_nothing(shared: Environment, action: str) -> None:
    # In MLGym it raises an IndexError and ends the run with the status ''.
    observation, reward, terminated, truncated, _ = shared.step(action)
    assert (observation, reward, terminated, truncated) == ("(the command ended without output)", 0, False, False)


def test_1_5_max_steps_defaults_to_that_of_the_published_runs() -> None:
    assert inspect.signature(Environment).parameters["max_steps"].default == 50


def test_1_5_differs_the_step_that_reaches_the_limit_is_run(task: Task) -> None:
    # MLGym asks for one action more, does not run it, and hands in.
    env, seen = play(task, "echo one", f"{PERFECT}; echo two", max_steps=2)
    assert seen == ["one", "two\nExited (max_steps)"]
    assert (env.exit_status, env.scores) == ("autosubmission (max_steps)", [{"accuracy": 1.0}])


def test_1_5_an_edit_without_its_end_is_answered_with_the_form(shared: Environment) -> None:
    shared.step("create form.txt")
    assert "end_of_edit" in shared.step("edit 1:1\nrm -rf data")[0]
    assert shared.step("ls data; cat form.txt")[0] == "train.csv"


@pytest.mark.parametrize("word", ["python", "python3", "torchrun", "accelerate", "deepspeed"])
def test_1_6_a_word_anywhere_in_an_action_gives_it_the_training_time(hurried: Environment, word: str) -> None:
    said = hurried.step(f"echo before; : my{word}s; sleep 600; echo after")[0]
    assert said == "before\nEXECUTION TIMED OUT BECAUSE THE COMMAND WAS RUNNING FOR MORE THAN 1 SECONDS."


def test_1_6_any_other_action_has_25_s(hurried: Environment) -> None:
    assert hurried.step("sleep 1.3; echo done")[0] == "done"
    assert "25 s for any other" in hurried.describe_task()


def test_1_6_the_training_time_is_the_tasks_own(tmp_path: Path) -> None:
    assert Environment(load_table(tmp_path, training_timeout=77)).training_timeout_s == 77
    assert Environment(load_table(tmp_path, training_timeout=None)).training_timeout_s == 3600


def test_1_6_a_timeout_ends_what_the_action_started_and_keeps_the_folder(hurried: Environment) -> None:
    hurried.step("mkdir -p deep; cd deep")
    said = hurried.step("sleep 321 & (sleep 322; :) & echo python; sleep 323")[0]
    assert said.startswith("python\nEXECUTION TIMED OUT")
    assert hurried.step("pgrep -f 'sleep 32[1-3]'; pwd; cd ..")[0] == f"{WORKSPACE}/deep"


@pytest.mark.parametrize("action", ["cat", "bash", "sh -i", "read line", "python", "sort", "head -1 > x; wc -c < x",
                                    "cat <<< text", "grep x", "ssh", "nano x", "less", "more", "git commit"])
def test_5_what_waits_for_input_gets_none_and_the_session_goes_on(shared: Environment, action: str) -> None:
    # `cat` kills MLGym's session; its list of forbidden commands compares one letter and stops none of these.
    said = shared.step(action)[0]
    assert "TIMED OUT" not in said and not shared.done
    assert shared.step("echo alive")[0] == "alive"


def test_5_a_program_that_wants_a_terminal_costs_its_time_and_nothing_more(hurried: Environment) -> None:
    hurried.step("vim x; : python")
    assert hurried.step("echo alive")[0] == "alive"


def test_5_what_a_step_told_stays_as_it_was(task: Task) -> None:
    with Environment(task, SANDBOX) as env:
        env.reset()
        info = env.step(HALF)[4]
        env.step("validate")
        assert (info["scores"], info["parts"]) == ([], [])


def test_5_reward_is_the_gain_over_the_baseline_and_step_is_gymnasiums(task: Task) -> None:
    with Environment(task, SANDBOX) as env:
        env.reset(seed=1)
        assert env.step(HALF)[1:4] == (0.0, False, False)
        assert env.step("submit")[1:4] == (pytest.approx(1.0), True, False)


def test_1_5_metrics_of_every_name_are_kept(tmp_path: Path) -> None:
    env, _ = play(load_duel(tmp_path, print_metrics(**{"val loss": -1, "BLEU-4": 2})), "validate", "submit")
    assert env.scores == [{"val loss": -1.0, "BLEU-4": 2.0}] * 2
