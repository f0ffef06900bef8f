"""Prompt templates are rendered strictly, and their hash follows their text."""

import pytest
from jinja2 import UndefinedError

from synthkit.core.prompts import hash_prompts, render_prompt
from synthkit.gym.episode import AGENT_PROMPTS


def test_a_missing_value_is_an_error() -> None:
    assert "/some/where" in render_prompt("agent_system", workspace="/some/where")
    with pytest.raises(UndefinedError, match="workspace"):
        render_prompt("agent_system")


def test_optional_lines_vanish_without_a_gap() -> None:
    text = render_prompt("agent_task", name="Blotto", description="Play {this}.", metric=None, direction=None,
                         task_kind=None, baseline=None, columns=None, files=["target.py"], training_timeout_s=60,
                         action_timeout_s=25)
    assert text.splitlines() == ["TASK: Blotto", "Play {this}.", "Files: target.py",
                                 "Time limit: 60 s for an action that runs Python, 25 s for any other"]


def test_the_hash_depends_on_the_templates_not_on_their_order() -> None:
    assert hash_prompts(AGENT_PROMPTS) == hash_prompts(reversed(AGENT_PROMPTS)) != hash_prompts(AGENT_PROMPTS[:2])
