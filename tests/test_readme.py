"""The README's commands are those of the repository, and its files and links, CONTRIBUTING.md's too, are there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from kits.places import ROOT

from synthkit.cli import build_parser, choose_stages
from synthkit.core.params import STAGES
from synthkit.core.profiles import load_params

TEXT = (ROOT / "README.md").read_text()
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


def test_no_figure_is_left_open() -> None:
    assert re.findall(r"@@\w+@@", TEXT) == []
