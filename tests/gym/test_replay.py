"""`synthkit gym run`: a recorded list of actions is played again in any checkout of MLGym's layout."""

import json
import shutil
from pathlib import Path

import pytest
from kits.checkout_kit import write_checkout

from synthkit.cli import main

BACKEND = "bwrap" if shutil.which("bwrap") else "process"
ACTIONS = ["ls", {"action": "validate"}, "sed -i 's/return 1/return len(history) % 2/' strategy.py", "cat", "exit",
           "open strategy.py", "edit 2:2\n    return len(history) % 2\nend_of_edit", "submit", "ls"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkout(tmp_path_factory.mktemp("checkout"))


def replay(root: Path, actions: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict:
    code = main(["gym", "run", "--mlgym-root", str(root), "--task", "tasks/battleOfSexes.yaml", "--actions",
                 str(actions), "--backend", BACKEND, "--json", *options])
    assert code == 0
    return json.loads(capsys.readouterr().out)


def test_every_answer_and_score_is_told(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "actions.jsonl"
    path.write_text("".join(json.dumps(action) + "\n" for action in ACTIONS))
    told = replay(root, path, capsys)
    assert [step["observation"].splitlines()[0] for step in told["steps"]][:2] == ["evaluate.py",
                                                                                   "Your submission is valid."]
    assert [step["score"] for step in told["steps"]] == [None, {"Score": 0.5}, *[None] * 5, {"Score": 1.0}]
    assert (told["exit_status"], told["actions_left"], told["scores"][-1]) == ("submitted", 1, {"Score": 1.0})
    assert told["steps"][5]["state"]["open_file"] == "/home/agent/workspace/strategy.py"
    assert all(step["seconds"] >= 0 for step in told["steps"]) and told["seconds"]["total"] > 0


def test_a_trajectory_is_played_again_to_its_forced_end(root: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "battleOfSexes.traj"
    path.write_text(json.dumps({"trajectory": [{"action": "ls"}, {"action": "exit_context"}]}))
    assert replay(root, path, capsys)["exit_status"] == "autosubmission (exit_context)"
    assert replay(root, path, capsys, "--max-steps", "1")["exit_status"] == "autosubmission (max_steps)"
    assert "target.py" not in replay(root, path, capsys, "--secret", "target.py")["steps"][0]["observation"]


def test_a_line_that_is_no_action_is_named(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "actions.jsonl"
    path.write_text('"ls"\n{"act": 1}\n')
    assert main(["gym", "run", "--mlgym-root", str(root), "--task", "speech", "--actions", str(path)]) == 1
    assert "line 2: not an action" in capsys.readouterr().err
