"""The gym by itself: its five names, the example in its docstring, and Gymnasium's calls."""

import inspect
import re
import shutil
import textwrap
from pathlib import Path

import pytest
from kits.checkout_kit import write_checkout

import synthkit.gym as gym
from synthkit.core.params import SandboxParams
from synthkit.gym import Agent, Environment, Task, aup

pytestmark = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_checkout(tmp_path / "MLGym")


def test_the_names_are_few_and_documented() -> None:
    assert gym.__all__ == ["Agent", "Environment", "Task", "Trajectory", "aup"]
    assert gym.aup is aup
    for name in gym.__all__:
        assert len((inspect.getdoc(getattr(gym, name)) or "").split()) > 10, name


def test_the_example_of_the_docstring_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = textwrap.dedent("\n".join(re.findall(r"^    .*$|^$", gym.__doc__, re.M)))
    monkeypatch.chdir(root.parent)
    found: dict = {"Path": Path}
    exec(example, found)
    assert "strategy.py" in found["observation"] and found["truncated"] is False


def test_a_step_gives_what_gymnasium_asks_for(root: Path) -> None:
    with Environment(Task.load(root, "battleOfSexes"), SandboxParams(warm=False), max_steps=3) as env:
        observation, info = env.reset(seed=1)
        assert isinstance(observation, str) and isinstance(info, dict)
        _, reward, terminated, truncated, info = env.step("sed -i 's/return 1/return len(history)%2/' strategy.py")
        assert (reward, terminated, truncated) == (0.0, False, False)
        # The reward is the improvement over the baseline: 1.0 is twice 0.5.
        env.baseline = {"Score": 0.5}
        assert env.step("submit")[1:4] == (1.0, True, False)


def test_any_function_of_the_messages_is_an_agent(root: Path) -> None:
    said = iter(["I look.\n```\nls\n```", "I hand it in.\n```\nsubmit\n```"])
    with Environment(Task.load(root, "battleOfSexes"), SandboxParams(warm=False)) as env:
        trajectory = Agent(model=lambda messages: next(said)).play(env)
    assert trajectory.exit_status == "submitted" and [step.action for step in trajectory.steps] == ["ls", "submit"]
