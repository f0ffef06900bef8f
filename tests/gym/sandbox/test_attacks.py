"""Scripted attacks on the gym fail and are reported as what they were; hostile text stays text on a page.

`make test` plays the first attack of each family on each profile, `make attacks` all of them, as a table.
"""

import json
import shutil
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from attacks import ATTACKS
from attacks.kit import PROFILES, Attack, World, open_world
from attacks.runner import CONTROLS, Stage, list_members
from kits.show_kit import make_aup, make_scores, write_lines, write_stage

from synthkit.core.params import STAGES
from synthkit.gym.trajectory import Step, Trajectory
from synthkit.gym.trajectory.replay import format_replay
from synthkit.show import viewer
from synthkit.show.report import write_report

needs_bwrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
# One environment after the other, each for all attacks of its profile.
FIRST = {(attack.profile, attack.family): attack for attack in reversed(ATTACKS)}
ORDERED = sorted(FIRST.values(), key=lambda attack: list(PROFILES).index(attack.profile))
MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = (MARKUP, "<script>alert(1)</script>", "\" onmouseover='alert(1)' x=\"", "--><svg onload=alert(1)>",
           "]]>{{ 7 * 7 }}", "</pre></div><iframe src=//x>", "\x1b]8;;http://x\x07link\x1b[2J\x9b2J\u202e\u2066")
HARMLESS = ("harmless",) * len(HOSTILE)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Stages"]:
    with open_world(tmp_path_factory.mktemp("attacks") / "world") as world:
        opened = Stages(world)
        yield opened
        for stage in opened.values():
            stage.env.close()


class Stages(dict[str, Stage]):
    """The environment of each profile, opened when the first attack needs it."""

    def __init__(self, world: World):
        super().__init__()
        self.world = world

    def __missing__(self, profile: str) -> Stage:
        self[profile] = Stage(self.world, profile)
        return self[profile]


@needs_bwrap
@pytest.mark.parametrize("attack", ORDERED, ids=lambda attack: f"{attack.family}: {attack.name}")
def test_an_attack_fails_and_is_reported(stages: Stages, attack: Attack) -> None:
    outcome = stages[attack.profile].play(attack)
    assert not outcome.faults, (outcome.faults, outcome.line)


@needs_bwrap
@pytest.mark.parametrize("profile", PROFILES)
def test_in_the_end_honest_work_is_scored_and_nothing_is_left(stages: Stages, profile: str, tmp_path: Path) -> None:
    assert stages[profile].finish(tmp_path) == []


def test_the_suite_is_large_and_names_are_its_own() -> None:
    assert len(ATTACKS) >= 40
    assert len({(attack.family, attack.name) for attack in ATTACKS}) == len(ATTACKS)


@needs_bwrap
def test_an_attack_that_succeeds_would_be_seen(tmp_path: Path) -> None:
    """Each secret and each check once with the defence taken away by hand."""
    with open_world(tmp_path / "world") as world:
        stage = Stage(world, "warm")

        def play(*actions: str, seen: str = "") -> str:
            return stage.play(Attack("a break-in", "test", actions, seen)).verdict

        assert play("echo nothing") == "failed, as it should"
        assert "not reported" in play("echo nothing", seen="something")
        (stage.env.workspace / "leak").write_text(world.canary)
        assert "a secret" in play("cat leak")
        assert "it got a score" in play("validate")
        with socket.create_connection(("127.0.0.1", world.listeners["TCP"].getsockname()[1])):
            assert "TCP socket" in play("true")
        (world.home / ".netrc").chmod(0o600)
        assert "files of the host" in play("true")
        assert list_members(stage.namespaces)
        assert "a secret is in the trajectory" in stage.finish(tmp_path / "trajectory")
        assert not list_members(stage.namespaces)


def write_run(run: Path, texts: tuple[str, ...], task: str) -> Path:
    """A finished run in which whatever a model can name or say is one of `texts`."""
    for name in STAGES:
        write_stage(run, name, {"gated": 1} if name == "02_datasets" else {})
    write_lines(run / "02_datasets/refused.jsonl", [{"reason": "gated", "title": t, "detail": t} for t in texts])
    write_lines(run / "05_trajectories/rollouts.jsonl", [{"steps": 4, "n_tokens": 900, "kept": True, "better": False}])
    make_scores().replace("alpha", task).to_csv(run / "07_mlgym_eval/scores.csv", index=False)
    (run / "07_mlgym_eval/aup.json").write_text(json.dumps({**make_aup(), "tasks": [task, "beta"]}))
    make_trajectory(texts).save(run / "07_mlgym_eval/trajectories/student" / task / "1")
    return run


def make_trajectory(texts: tuple[str, ...]) -> Trajectory:
    steps = [Step(json.dumps({"open_file": t, "working_dir": t}), t, t, t, 0.1, t) for t in texts]
    return Trajectory("alpha", texts[0], exit_status=texts[1], steps=steps, scores=[{texts[0]: 0.5}])


class Outline(HTMLParser):
    """The tags of a page, each with the names of its attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: set[tuple[str, ...]] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add((tag, *sorted(name for name, _ in attrs)))


def check_page(hostile: str, harmless: str) -> None:
    """Hostile text makes the same markup as harmless text, and none of its controls are left."""
    assert Outline(hostile).tags == Outline(harmless).tags
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u2066"} & set(hostile)
    assert "&lt;script&gt;" in hostile and "{{ 7 * 7 }}" in hostile and "49" not in hostile.partition("]]&gt;")[2][:5]


def test_hostile_text_stays_text_in_the_viewer(tmp_path: Path) -> None:
    make_trajectory(HOSTILE).save(tmp_path)
    hostile = viewer.render_trajectory(tmp_path)
    check_page(hostile, viewer.render_trajectory(make_trajectory(HARMLESS).to_mlgym()))
    assert hostile.count("&lt;iframe") == 3


def test_hostile_text_stays_text_in_the_report(tmp_path: Path) -> None:
    runs = write_run(tmp_path / "hostile", HOSTILE, MARKUP), write_run(tmp_path / "harmless", HARMLESS, "alpha")
    hostile, harmless = (write_report(run).read_text(encoding="utf-8") for run in runs)
    check_page(hostile, harmless)
    assert MARKUP not in hostile and hostile.count("&lt;img src=x onerror") > 3


def test_no_line_that_was_executed_is_hidden_in_the_viewer(tmp_path: Path) -> None:
    action = "ls\x1b]0;\nrm -rf data\n\x07"
    Trajectory("alpha", "m", steps=[Step("{}", action, action, action, 0.1, action)]).save(tmp_path)
    assert viewer.render_trajectory(tmp_path).count("rm -rf data") == 3


def test_no_escapes_of_an_action_reach_the_terminal() -> None:
    step = {"seconds": 0.1, "action": HOSTILE[-1], "observation": "x"}
    shown = format_replay({"task": "t", "exit_status": "", "scores": [], "baseline": {}, "steps": [step],
                           "seconds": {"total": 0.1}})
    assert not CONTROLS.findall(shown) and "link" in shown
