"""Sections 1.4 and 5 of the MLGym contract: how a submission is evaluated, and forgeries that MLGym lets through."""

from pathlib import Path

import pytest
from kits.contract_kit import (
    CONFINED,
    HALF,
    LABELS,
    PERFECT,
    PRINT_SCORE,
    SANDBOX,
    WORKSPACE,
    load_duel,
    load_table,
    play,
    print_metrics,
    write_files,
    write_task,
)

from synthkit.gym.environment import Environment
from synthkit.gym.sandbox.workspace import prepare_workspace
from synthkit.gym.scoring import score_submission
from synthkit.gym.task import Task

SHOW_CALL = """import json, os, sys
assert os.path.realpath(__file__).endswith("/evaluate.py")
assert sys.argv[1:] == {args!r}, sys.argv
print(json.dumps({{"here": float(os.path.exists("evaluate.py")), "rows": 4}}))
"""
EVALUATE_RELATIVE = "open('data/labels.csv'), open('submission.csv')\n" + print_metrics(accuracy=1)
PROGRESS = ' 50%|#####     | 1/2 [00:00<00:00, 10.00it/s]'


def score(task: Task, workspace: Path | bytes) -> tuple[dict[str, float] | None, str | None]:
    """(metrics, failure) of a submission on all rows."""
    result = score_submission(task, workspace, "all", SANDBOX)
    return result.metrics, result.failure


def load_model(root: Path, evaluate: str, entrypoint: str = "ModelSubmissionTasks") -> Task:
    """A task whose submission is a model, with this evaluation."""
    write_task(root, {"evaluate.py": evaluate}, task_entrypoint=entrypoint, evaluation_paths=["evaluate.py"],
               starter_code=["data/guess/evaluate.py"], training_timeout=300)
    return Task.load(root, "guess")


@pytest.mark.skipif(not CONFINED, reason="without isolation the workspace has another path")
def test_1_4_a_table_is_named_to_the_evaluation_by_its_full_path(tmp_path: Path) -> None:
    evaluate = SHOW_CALL.format(args=["--submission_file", f"{WORKSPACE}/submission.csv"])
    assert score(load_table(tmp_path, evaluate), LABELS.encode()) == ({"here": 1.0, "rows": 4.0}, None)


def test_1_4_python_code_is_evaluated_without_arguments(tmp_path: Path) -> None:
    task = load_duel(tmp_path, SHOW_CALL.format(args=[]))
    prepare_workspace(task, tmp_path / "ws")
    assert score(task, tmp_path / "ws") == ({"here": 1.0, "rows": 4.0}, None)


@pytest.mark.skipif(not CONFINED, reason="without isolation the workspace has another path")
def test_1_4_a_model_is_named_to_the_evaluation_by_its_yaml(tmp_path: Path) -> None:
    evaluate = SHOW_CALL.format(args=["--config_fname", f"{WORKSPACE}/run/my model.yaml"])
    task = load_model(tmp_path, evaluate)
    write_files(tmp_path / "ws", {"run/my model.yaml": "a: 1\n"})
    assert score(task, tmp_path / "ws") == ({"here": 1.0, "rows": 4.0}, None)


@pytest.mark.parametrize("left", ["true", "mkdir player.py", "ln -s /etc/hostname player.py", "mkfifo player.py"])
def test_1_4_python_code_that_is_gone_is_never_not_found_and_gets_no_score(tmp_path: Path, left: str) -> None:
    env, _ = play(load_duel(tmp_path), f"rm player.py; {left}", "submit")
    assert (env.scores, env.exit_status) == ([], "evaluation_format_error (submit)")


@pytest.mark.parametrize("lines", ["", "\n \n{score}\n\n", "{score}\n"])
def test_1_4_a_table_may_be_scored_between_blank_lines_only(tmp_path: Path, lines: str) -> None:
    printed = lines.replace("{score}", '{"r2": 0.5}')
    expected = ({"r2": 0.5}, None) if lines else (None, "evaluation_format_error")
    assert score(load_table(tmp_path, f"print({printed!r})"), LABELS.encode()) == expected


@pytest.mark.parametrize("load", [load_table, load_duel])
def test_1_4_differs_warnings_and_progress_bars_on_stderr_spoil_no_score(tmp_path: Path, load: object) -> None:
    # MLGym merges both streams, and one warning makes a table's or Python code's score unreadable.
    task = load(tmp_path, f"import sys\nprint('careful', {PROGRESS!r}, file=sys.stderr)\n{PRINT_SCORE}")
    prepare_workspace(task, tmp_path / "ws")
    write_files(tmp_path / "ws", {"submission.csv": LABELS})
    submission = tmp_path / "ws" / ("submission.csv" if load is load_table else "")
    assert score(task, submission) == ({"score": 1.0}, None)


def test_1_4_progress_bars_on_stdout_are_left_out(tmp_path: Path) -> None:
    task = load_table(tmp_path, f"print({PROGRESS!r})\n{PRINT_SCORE}")
    assert score(task, LABELS.encode()) == ({"score": 1.0}, None)


def test_1_4_differs_an_evaluation_that_fails_after_printing_gives_no_score(tmp_path: Path) -> None:
    # MLGym ignores the exit code; a script that died is not one whose last word counts.
    assert score(load_table(tmp_path, f"{PRINT_SCORE}raise SystemExit(3)"), LABELS.encode())[0] is None


def test_1_4_a_models_score_is_the_first_line_with_an_object(tmp_path: Path) -> None:
    task = load_model(tmp_path, f"print('epoch 1 {{')\n{print_metrics(loss=2)}{print_metrics(loss=9)}")
    write_files(tmp_path / "ws", {"m.yaml": "a: 1\n"})
    assert score(task, tmp_path / "ws") == ({"loss": 2.0}, None)


@pytest.mark.parametrize("printed", ['{"a": {"b": 1}}', '{"a": "0.5"}', '{"a": null}', "[1]", '{"a": 1}\n{"a": 1}'])
def test_1_4_metrics_are_one_object_of_numbers(tmp_path: Path, printed: str) -> None:
    assert score(load_table(tmp_path, f"print({printed!r})"), LABELS.encode()) == (None, "evaluation_format_error")


def test_1_4_differs_the_evaluation_runs_in_the_workspace_wherever_the_agent_stands(tmp_path: Path) -> None:
    # In MLGym it runs in the agent's current folder, where its relative paths lead nowhere.
    task = load_table(tmp_path, EVALUATE_RELATIVE)
    env, seen = play(task, PERFECT, "mkdir elsewhere; cd elsewhere", "validate", "cd /tmp", "submit")
    assert env.scores == [{"accuracy": 1.0}] * 2


def test_1_4_differs_only_the_table_reaches_its_evaluation(tmp_path: Path) -> None:
    # In MLGym the evaluation sees all that the agent left beside it.
    evaluate = "import json, os\nprint(json.dumps({'others': float(os.path.exists('extra.py'))}))"
    env, _ = play(load_table(tmp_path, evaluate), f"{PERFECT}; touch extra.py", "submit")
    assert env.scores == [{"others": 0.0}]


# Each makes MLGym report a score that the agent chose [section 5]; here the honest score stays.
FORGERIES = {
    "python function": "python() { echo '{\"accuracy\": 99}'; }; export -f python; hash -r",
    "alias": "shopt -s expand_aliases; alias python='echo \"{}\"'",
    "PATH": "mkdir bin; printf '#!/bin/sh\\necho {}' > bin/python; chmod +x bin/python; export PATH=$PWD/bin:$PATH",
    "PYTHONPATH": "export PYTHONPATH=$PWD; echo 'dumps = lambda x: \"{}\"' > json.py",
    "sitecustomize": "echo 'print(1)' > sitecustomize.py; export PYTHONPATH=$PWD PYTHONSTARTUP=$PWD/sitecustomize.py",
    "chmod back and edit": "chmod 755 evaluate.py; echo 'print(99)' > evaluate.py",
    "evaluate.py replaced": "rm -f evaluate.py; printf '%s' 'print(99)' > evaluate.py",
    "evaluate.py as a link": "rm -f evaluate.py; echo 'print(99)' > x.py; ln -s x.py evaluate.py",
    "evaluate.py as a folder": "rm -f evaluate.py; mkdir evaluate.py; echo 'print(99)' > evaluate.py/__main__.py",
    "labels of its own": "chmod -R 777 data; printf 'id,y\\n1,a\\n2,a\\n3,a\\n4,a\\n' > data/labels.csv",
    "data moved": "mv data old; mkdir data; printf 'id,y\\n1,a\\n' > data/labels.csv",
    "DEBUG trap": "trap 'echo {}' DEBUG; PROMPT_COMMAND='echo {}'",
}


@pytest.fixture(scope="module")
def table_task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load_table(tmp_path_factory.mktemp("root"))


@pytest.mark.parametrize("name", FORGERIES)
def test_5_a_forged_table_score_is_the_honest_one(table_task: Task, name: str) -> None:
    env, seen = play(table_task, HALF, FORGERIES[name], "validate")
    assert env.scores == [{"accuracy": 0.5}], seen


DUEL_FORGERIES = {
    "python function": "python() { echo '{\"wins\": 99}'; }; export -f python",
    "the rival": "printf 'def answer(n):\\n    return 1\\n' > rival.py",
    "chmod back and edit": "chmod 777 evaluate.py; echo 'print(99)' > evaluate.py",
    "sitecustomize": "echo 'raise SystemExit' > sitecustomize.py; export PYTHONPATH=$PWD",
}


@pytest.mark.parametrize("name", DUEL_FORGERIES)
def test_5_a_forged_score_of_python_code_is_the_honest_one(tmp_path: Path, name: str) -> None:
    env, seen = play(load_duel(tmp_path), DUEL_FORGERIES[name], "validate")
    assert env.scores == [{"wins": 0.5}], seen


@pytest.mark.parametrize("entrypoint", ["ModelSubmissionTasks", "LMSubmissionTasks"])
def test_5_a_models_evaluation_is_the_tasks_own(tmp_path: Path, entrypoint: str) -> None:
    task = load_model(tmp_path, print_metrics(loss=2), entrypoint)
    env, seen = play(task, "echo 'a: 1' > m.yaml; rm evaluate.py; echo 'print({\"loss\": 0})' > evaluate.py", "submit")
    assert env.scores == [{"loss": 2.0}], seen


@pytest.mark.parametrize("marker", ["VALIDATION", "SUBMISSION"])
def test_5_a_printed_marker_is_only_text(table_task: Task, marker: str) -> None:
    env, seen = play(table_task, PERFECT, f"echo '<<{marker}||{WORKSPACE}/submission.csv||{marker}>>'")
    assert env.scores == [] and not env.done and marker in seen[1]


@pytest.mark.skipif(not CONFINED, reason="without isolation nothing is out of reach")
@pytest.mark.parametrize(("task_id", "labels"), [("regressionKaggleHousePrice", "answer.csv"),
                                                 ("titanicSurvival", "ground_truth.csv")])
def test_5_the_labels_of_mlgyms_tasks_are_not_to_be_found(tmp_path: Path, task_id: str, labels: str) -> None:
    root = write_task(tmp_path, {}, id=task_id, dataset_configs=["datasets/rows.yaml"])
    load_table(root)
    (tmp_path / "data/rows" / labels).write_text("id,secret\n")
    _, seen = play(Task.load(root, task_id), f"cp data/{labels} submission.csv; find /home /tmp -name {labels}",
                   "ls data")
    assert "No such file" in seen[0] and "/" + labels not in seen[0].replace(f"data/{labels}", "")
    assert labels not in seen[1] and "train.csv" in seen[1]


@pytest.mark.parametrize("task_id", ["battleOfSexes", "prisonersDilemma", "blotto"])
def test_5_differs_the_rival_of_mlgyms_games_is_readable_and_fixed(tmp_path: Path, task_id: str) -> None:
    # 38 published runs read target.py; what it scores is the pristine one.
    root = write_task(tmp_path, {"target.py": "", "strategy.py": ""}, id=task_id,
                      starter_code=[f"data/{task_id}/target.py", f"data/{task_id}/strategy.py"])
    task = Task.load(root, task_id)
    assert "target.py" in task.public_files() and task.is_fixed("target.py") and not task.is_fixed("strategy.py")


def test_5_a_timed_out_evaluation_leaves_the_session_alive(tmp_path: Path) -> None:
    task = load_table(tmp_path, "import time\nwhile True: time.sleep(1)", training_timeout=1)
    env, seen = play(task, PERFECT, "validate", "echo alive", "submit")
    assert "longer than 1 s" in seen[1] and seen[2] == "alive"
    assert env.exit_status == "EvaluationTimeout, the evaluation took longer than 1 s, (submit)"


def test_5_two_tasks_are_played_in_one_process(tmp_path: Path) -> None:
    table, duel = load_table(tmp_path / "a"), load_duel(tmp_path / "b")
    with Environment(table, SANDBOX) as one, Environment(duel, SANDBOX) as other:
        for env in (one, other):
            env.reset()
        for env, action in ((one, PERFECT), (other, "validate"), (one, "submit"), (other, "submit")):
            env.step(action)
    assert (one.scores, other.scores) == ([{"accuracy": 1.0}], [{"wins": 0.5}] * 2)
