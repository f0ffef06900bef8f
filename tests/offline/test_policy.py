"""The scripted teacher's agent policy: it follows the observations, and a seed is a rollout of its own."""

import random

import pytest

from synthkit.gym.agent.parsing import parse_reply
from synthkit.offline.policy import next_action
from synthkit.offline.recipes import MISTAKES, order_recipes, write_script

BRIEF = """TASK: Iris species
Predict the species.
Metric: accuracy (higher is better)
Task kind: classification
Baseline accuracy: 0.6600
Submission: submission.csv with the columns of data/sample_submission.csv (id, species)
Files: baseline.py evaluate.py data/train.csv"""
STATE = "\n(Current Step: 0, Remaining Steps: 24)\n(Open file: n/a)\n(Current directory: /home/agent/workspace)\nbash-$"
BETTER = 'Your submission.csv is valid.\nBaseline score: {"accuracy": 0.66}\nYour score: {"accuracy": 0.9} ' \
         "(better than the baseline)"
WORSE = BETTER.replace("0.9", "0.5").replace("(better", "(not better")


def start() -> list[dict[str, str]]:
    return [{"role": "system", "content": "s"}, {"role": "user", "content": BRIEF + STATE}]


def play(seed: int, scores: list[str], limit: int = 24) -> list[str]:
    """The actions of a rollout in a world where every script works and validate answers as told."""
    messages, actions, told = start(), [], list(scores)
    while len(actions) < limit:
        reply = next_action(messages, seed)
        action = parse_reply(reply)[1]
        actions.append(action)
        if action.strip() == "submit":
            break
        validated = action.strip() == "validate" and any("solve.py" in a for a in actions)
        seen = (told.pop(0) if told else BETTER) if validated else "wrote 50 rows"
        seen = WORSE if action.strip() == "validate" and not validated else seen
        messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": seen + STATE}]
    return actions


def test_every_reply_is_one_action_and_most_rollouts_submit():
    endings = [play(seed, [])[-1].strip() for seed in range(60)]
    assert endings.count("submit") >= 50
    assert any(end != "submit" for end in endings), "some rollouts have to give the filter work"


def test_a_score_below_the_baseline_makes_it_try_another_model():
    for seed in range(20):
        actions = play(seed, [WORSE, WORSE])
        if actions[-1].strip() == "submit" and not any("best.csv" in a for a in actions):
            assert sum("cat > solve.py" in a or a.startswith("edit") for a in actions) >= 3


def test_an_error_is_read_and_answered_with_another_script():
    messages = start()
    while "solve.py" not in (action := parse_reply(next_action(messages, 3))[1]):
        messages += [{"role": "assistant", "content": next_action(messages, 3)},
                     {"role": "user", "content": ("ok" if action.strip() != "validate" else WORSE) + STATE}]
    failed = "Traceback (most recent call last):\nKeyError: 'species'"
    messages.append({"role": "assistant", "content": next_action(messages, 3)})
    messages.append({"role": "user", "content": failed + STATE})
    thought, action = parse_reply(next_action(messages, 3))
    assert "KeyError: 'species'" in thought and "cat > solve.py" in action


def test_the_same_seed_gives_the_same_reply_and_seeds_differ():
    rollouts = {seed: tuple(play(seed, [WORSE, BETTER, BETTER])) for seed in range(40)}
    assert all(rollouts[seed] == tuple(play(seed, [WORSE, BETTER, BETTER])) for seed in range(5))
    assert len(set(rollouts.values())) >= 36


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_recipes_are_python_and_mistakes_change_them(kind: str):
    for recipe in order_recipes(random.Random(0)):
        script = write_script(recipe, kind, random.Random(1))
        compile(script, "solve.py", "exec")
        for mistake in MISTAKES:
            assert script.count(mistake.right) == 1, (recipe, mistake.name)
