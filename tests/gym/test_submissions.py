"""MLGym's four kinds of submission, evaluated where the agent cannot reach (contract, sections 1.2 and 1.4)."""

import os
import shutil
from pathlib import Path

import pytest
from kits.checkout_kit import write_checkout

from synthkit.core.params import SandboxParams
from synthkit.gym.environment import Environment
from synthkit.gym.sandbox.workspace import BadFile, clone_files, prepare_workspace
from synthkit.gym.scoring import score_submission
from synthkit.gym.task import Task

PARAMS = SandboxParams(backend="bwrap" if shutil.which("bwrap") else "process")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkout(tmp_path_factory.mktemp("checkout"))


def evaluate(root: Path, name: str, workspace: Path, **files: str) -> tuple[dict[str, float] | None, str]:
    task = Task.load(root, name)
    prepare_workspace(task, workspace)
    for path, text in files.items():
        target = workspace / path.replace("__", "/").replace("_py", ".py")
        target.parent.mkdir(exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(text)
    score = score_submission(task, workspace, "all", PARAMS)
    return score.metrics, score.failure or score.message


GAMES = {
    "as it came": ("def choose(history):\n    return 1\n", 0.5),
    "reads the history": ("def choose(history):\n    return 1 - history[-1][1] if history else 0\n", 1.0),
    "keeps a state": ("class Player:\n    turn = -1\n    def __call__(self, history):\n        self.turn += 1\n"
                      "        return self.turn % 2\nchoose = Player()\n", 1.0),
    "returns numpy": ("import numpy\ndef choose(history):\n    return numpy.int64(len(history) % 2)\n", 1.0),
    "sees tuples": ("def choose(history):\n    return 0 if history == [] or history[-1] == (1, 1) else 1\n", 1.0),
    "changes what it is given": ("def choose(history):\n    history[:] = [(0, 0)] * 49\n    return 1\n", 0.5),
    "prints a score and leaves": ("import os\nprint('{\"Score\": 99}', flush=True)\nos._exit(0)\n", None),
    "prints a score in a call": ("def choose(history):\n    print('{\"Score\": 99}', flush=True)\n    return 1\n", 0.5),
    "fails": ("def choose(history):\n    return 1 / 0\n", None),
    "does not compile": ("def choose(history:\n", None),
}


@pytest.mark.parametrize("name", GAMES)
def test_python_code_is_called_and_never_meets_the_evaluation(root: Path, tmp_path: Path, name: str) -> None:
    code, expected = GAMES[name]
    metrics, message = evaluate(root, "battleOfSexes", tmp_path, strategy_py=code)
    assert metrics == (None if expected is None else {"Score": expected}), message
    assert expected is not None or message == "bad_submission"


def test_what_failed_in_the_code_is_said(root: Path, tmp_path: Path) -> None:
    task = Task.load(root, "battleOfSexes")
    prepare_workspace(task, tmp_path)
    (tmp_path / "strategy.py").write_text("def choose(history):\n    return 1 / 0\n")
    message = score_submission(task, tmp_path, "all", PARAMS).message
    assert message == "submission_proxy.SubmissionError: ZeroDivisionError: division by zero"


def test_the_opponent_and_libraries_are_the_tasks_own(root: Path, tmp_path: Path) -> None:
    forged = "def reply(history):\n    return 1\n"
    shadow = "def dumps(value):\n    return '{\"Score\": 99}'\n"
    metrics, _ = evaluate(root, "battleOfSexes", tmp_path, target_py=forged, json_py=shadow, evaluate_py="print(99)",
                          sitecustomize_py="print('{\"Score\": 99}')", submission_proxy_py="1/0", numpy_py="1/0")
    # json.py stands in the way of the agent's own process, and of nothing else.
    assert metrics in ({"Score": 0.5}, None)
    metrics, _ = evaluate(root, "battleOfSexes", tmp_path / "again", target_py=forged, evaluate_py="print(99)")
    assert metrics == {"Score": 0.5}


def test_a_model_is_described_by_the_agents_yaml(root: Path, tmp_path: Path) -> None:
    assert evaluate(root, "walker", tmp_path)[0] is None
    metrics, _ = evaluate(root, "walker", tmp_path, **{"checkpoints__a.yaml": "weights: checkpoints/w.json\n",
                                                       "checkpoints__w.json": "[1, 2.5]"})
    assert metrics == {"Reward Mean": 3.5}
    shutil.rmtree(tmp_path / "src")
    shutil.rmtree(tmp_path / "checkpoints")
    task = Task.load(root, "walker")
    task.config.starter_code = ["data/walker/evaluate.py"]
    assert score_submission(task, tmp_path, "all", PARAMS).failure == "submission_not_found"


def test_a_language_model_is_evaluated_by_torchrun(root: Path, tmp_path: Path) -> None:
    metrics, message = evaluate(root, "speech", tmp_path, **{"loss.txt": "3.25"})
    assert metrics == {"val_loss": 3.25, "rank": 0.0}, message


def test_a_checkouts_table_is_scored_whole_and_its_labels_are_hidden(root: Path) -> None:
    task = Task.load(root, "tasks/regressionKaggleHousePrice.yaml")
    assert "data/answer.csv" not in task.public_files() and "data/train.csv" in task.public_files()
    with Environment(task, PARAMS, max_steps=9) as env:
        env.reset()
        assert env.baseline == {"r2": 0.5}
        assert "No such file" in env.step("cp data/answer.csv submission.csv")[0]
        env.step("printf 'id,y\\n1,a\\n2,b\\n' > submission.csv")
        assert "1.0000" in env.step("validate")[0]
        assert env.step("submit")[1] == pytest.approx(1.0) and env.parts == ["all", "all"]


def test_secrets_and_fixed_files_can_be_named_from_outside(root: Path, tmp_path: Path) -> None:
    task = Task.load(root, "walker", secret_files=["src"], fixed_files=["evaluate.py"])
    assert list(task.public_files()) == ["evaluate.py"]
    task = Task.load(root, "battleOfSexes", secret_files=["target.py"])
    prepare_workspace(task, tmp_path)
    assert not (tmp_path / "target.py").exists()
    assert score_submission(task, tmp_path, "all", PARAMS).metrics == {"Score": 0.5}


def test_a_python_episode_from_reset_to_submit(root: Path) -> None:
    with Environment(Task.load(root, "battleOfSexes"), PARAMS, max_steps=9) as env:
        env.reset()
        assert env.step("validate")[0].startswith("Your submission is valid.")
        env.step("sed -i 's/return 1/return len(history) % 2/' strategy.py")
        env.step("submit")
        assert env.exit_status == "submitted" and env.scores == [{"Score": 0.5}, {"Score": 1.0}]


def test_a_copy_of_a_workspace_follows_nothing(tmp_path: Path) -> None:
    source, copy = tmp_path / "a", tmp_path / "b"
    (source / "deep").mkdir(parents=True)
    copy.mkdir()
    (source / "deep/x").write_text("x")
    (source / "link").symlink_to("/etc/passwd")
    (source / "folder").symlink_to("/etc")

    os.mkfifo(source / "pipe")
    clone_files(source, copy, 100)
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*")) == ["deep", "deep/x"]
    (tmp_path / "c").mkdir()
    with pytest.raises(BadFile):
        clone_files(source, tmp_path / "c", 0)


def test_modules_in_folders_are_called_too(tmp_path: Path) -> None:
    root = write_checkout(tmp_path / "checkout")
    data = root / "data/battleOfSexes"
    (data / "players").mkdir()
    (data / "players/__init__.py").write_text("")
    (data / "players/mine.py").write_text("def choose(history):\n    return 1\n")
    text = (data / "evaluate.py").read_text()
    (data / "evaluate.py").write_text(text.replace("from strategy import", "from players.mine import"))
    config = root / "configs/tasks/battleOfSexes.yaml"
    config.write_text(config.read_text().replace("starter_code:", "starter_code:\n- data/battleOfSexes/players"))
    forged = "import os\nprint('{\"Score\": 99}', flush=True)\nos._exit(0)\n"
    good = "def choose(history):\n    return len(history) % 2\n"
    assert evaluate(root, "battleOfSexes", tmp_path / "a", players__mine_py=good)[0] == {"Score": 1.0}
    assert evaluate(root, "battleOfSexes", tmp_path / "b", players__mine_py=forged)[0] is None


def test_a_star_import_takes_no_name_of_the_evaluations(tmp_path: Path) -> None:
    root = write_checkout(tmp_path / "checkout")
    script = root / "data/battleOfSexes/evaluate.py"
    script.write_text(script.read_text().replace("from strategy import choose", "from strategy import *"))
    forged = ("__all__ = ['choose', 'json', 'print', 'sum', 'len', 'history']\nhistory = []\n"
              "class json:\n    dumps = staticmethod(lambda value: '{\"Score\": 99}')\n"
              "def choose(history):\n    return 1\ndef print(*a):\n    pass\ndef sum(x):\n    return 99\n")
    assert evaluate(root, "battleOfSexes", tmp_path / "a", strategy_py=forged)[0] == {"Score": 0.5}
