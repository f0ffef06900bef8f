"""The README's commands are those of the repository, and its files and links, CONTRIBUTING.md's too, are there."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kits.places import ROOT

from synthkit.cli import build_parser, choose_stages
from synthkit.core.params import STAGES
from synthkit.core.profiles import load_params

TEXT = (ROOT / "README.md").read_text()
WORDS = " ".join(TEXT.split())
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.S))
INLINE = re.findall(r"`((?:synthkit|make) [^`]+)`", TEXT)
COMMANDS = [line for line in BLOCKS.splitlines() if line.strip()] + INLINE


def test_there_are_commands() -> None:
    assert sum("make " in command for command in COMMANDS) >= 3
    assert sum("synthkit run" in command for command in COMMANDS) >= 3


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_one_that_the_kit_has(command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        assert subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True).returncode == 0
        return
    if words[0].endswith("papermill"):
        flag, flat, notebook, _ = words[1:]
        assert flag == "-f" and (ROOT / notebook).is_file() and Path(flat).stem == Path(notebook).stem
        return
    args = build_parser().parse_args(words[1:])
    if words[1] == "run":
        choose_stages(args.only or args.first, args.only or args.last)
        load_params([ROOT / "params" / "base.yaml", ROOT / args.params], args.sets, args.run)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_and_files_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    files = re.findall(r"`((?:params|synthkit|notebooks)/[\w./-]+)`", text)
    assert [name for name in links + files if not (ROOT / name).exists()] == []


def test_every_stage_has_its_row() -> None:
    assert [name for name in STAGES if f"| `{name}` |" not in TEXT] == []


def load(profile: str) -> dict[str, Any]:
    return load_params([ROOT / "params" / "base.yaml", ROOT / "params" / f"{profile}.yaml"])


def test_the_sizes_of_the_papers_profile_are_those_of_its_file() -> None:
    paper = load("paper")
    trajectories, evaluation = paper["05_trajectories"], paper["07_mlgym_eval"]
    for said in (
        f"{paper['01_topics'].n_topics:,} topics", f"{trajectories.per_task} trajectories a task",
        f"the {trajectories.max_tokens // 1000}K filter", f"{paper['06_sft'].max_length // 1000}K training length",
        f"{paper['06_sft'].model.partition('/')[2]}, and", f"with {evaluation.runs} runs each",
    ):
        assert said in WORDS, said


def test_the_offline_figures_fit_one_another_and_the_profile() -> None:
    offline = load("offline")
    found = re.search(r"(\d+) tasks on (\d+) datasets were verified, (\d+) of them saved by the repair loop; (\d+) of "
                      r"(\d+) trajectories were kept", WORDS)
    tasks, datasets, saved, kept, rollouts = map(int, found.groups() if found else ())
    assert rollouts == tasks * offline["05_trajectories"].per_task and kept <= rollouts
    assert datasets <= tasks <= offline["01_topics"].n_topics and saved <= tasks
    base, student = re.findall(r"AUP, last submission \| ([\d.]+) \| ([\d.]+)", WORDS)[0]
    interval = re.findall(r"last submission: ([\d.]+) \(95 % interval ([\d.]+) to ([\d.]+);", WORDS)[0]
    difference, low, high = map(float, interval)
    assert float(student) - float(base) == pytest.approx(difference, abs=0.0011)
    assert low <= difference <= high
