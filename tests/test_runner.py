"""The headless run on small notebooks: what is accepted, what is skipped, and how every kind of end is told."""

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from synthkit.cli import main
from synthkit.core.params import STAGES
from synthkit.core.runs import load_stage_record

ROOT = Path(__file__).resolve().parent.parent
FINISH = "stage.finish(3, 2, {'same': 1})"
PROFILE = "params/offline.yaml"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose notebooks only open and finish their stage."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "notebooks").mkdir()
    for name in STAGES:
        write_notebook(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def write_notebook(repo: Path, name: str, body: str = "pass", last: str = FINISH) -> None:
    values = "\n".join(f"{key} = {value!r}" for key, value in STAGES[name]().model_dump().items())
    opening = f"from synthkit.core.runs import open_stage\nstage = open_stage({name!r}, globals())"
    cells = [new_code_cell(text) for text in (values, opening, body, last, "raise SystemError('an exercise ran')")]
    cells[0].metadata["tags"], cells[-1].metadata["tags"] = ["parameters"], ["exercise"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, repo / "notebooks" / f"{name}.ipynb")


def run(*args: str) -> int:
    return main(["run", PROFILE, *args])


def executed(repo: Path) -> list[str]:
    return sorted(path.name.split(".")[0] for path in repo.glob("outputs/offline/notebooks/*.ipynb"))


def test_stages_run_once_and_their_parameters_are_kept(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_notebook(repo, "01_topics", "import os; assert os.environ['PYTHONHASHSEED'] == '0' and n_topics == 5")
    assert run("--to", "02", "--set", "topics.n_topics=5") == 0
    said = capsys.readouterr().out
    assert "lost: same 1" in said and "report: outputs/offline/report.html" in said
    before = (repo / "outputs/offline/01_topics/stage.json").read_bytes()
    assert run("--to", "02", "--set", "topics.n_topics=5") == 0
    assert capsys.readouterr().out.count("complete already") == 2
    assert (repo / "outputs/offline/01_topics/stage.json").read_bytes() == before
    assert executed(repo) == ["01_topics", "02_datasets"]
    assert run("--only", "02", "--set", "datasets.min_rows=99") == 0
    kept = yaml.safe_load((repo / "outputs/offline/params.yaml").read_text())
    assert kept["topics"]["n_topics"] == 5 and kept["datasets"]["min_rows"] == 99
    assert not list(repo.glob("outputs/offline/notebooks/*.input.ipynb"))
    assert not list(repo.glob("outputs/offline/notebooks/*.log"))


@pytest.mark.parametrize(("body", "last", "cause", "fix"), [
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", FINISH, "was killed in cell 4", "free memory"),
    ("import os; os._exit(3)", FINISH, "exited with status 3 in cell 4", "see outputs/offline/notebooks/"),
    ("import sys; sys.exit(0)", FINISH, "ended in cell 4 without its completion record", "look at that cell"),
    ("pass", "pass", "without its completion record", "look at that cell"),
    ("stage.attempt = 'another'", FINISH, "without its completion record", "look at that cell"),
    ("{}['boom']", FINISH, "failed: KeyError: 'boom'", "open outputs/offline/notebooks/"),
    ("from synthkit.core.errors import HubError; raise HubError('gated', 'it is gated', 'accept its terms')", FINISH,
     "failed: it is gated", "accept its terms"),
    ("open('/dev/full', 'w').write('x' * 99999)", FINISH, "the disk is full", "free some space"),
])
def test_a_stage_that_does_not_finish_is_told_with_cause_and_fix(
    repo: Path, capsys: pytest.CaptureFixture[str], body: str, last: str, cause: str, fix: str
) -> None:
    write_notebook(repo, "01_topics", body, last)
    assert run("--to", "02") == 1
    error = capsys.readouterr().err
    assert "01_topics" in error and cause in error and f"fix: {fix}" in error
    assert "Traceback" not in error
    assert executed(repo) == ["01_topics"]


def test_a_run_that_failed_goes_on_where_it_stopped(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_notebook(repo, "02_datasets", "raise ValueError('broken')")
    assert run("--to", "02") == 1
    write_notebook(repo, "02_datasets")
    assert run("--to", "02") == 0
    assert "01_topics            2 of 3     complete already" in capsys.readouterr().out
    assert executed(repo) == ["01_topics", "02_datasets", "02_datasets"]


def test_what_is_wrong_is_found_before_a_kernel_starts(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--from", "03", "--to", "04") == 1
    assert "03_codegen needs 02_datasets" in capsys.readouterr().err
    for name in ("01_topics", "02_datasets"):
        path = repo / "notebooks" / f"{name}.ipynb"
        path.write_text(path.read_text().replace("seed = 0", "sede = 0"))
    assert run("--to", "02") == 1
    error = capsys.readouterr().err
    assert "01_topics.ipynb: sede is no parameter" in error and "02_datasets.ipynb: sede is no parameter" in error
    assert run("--to", "02", "--set", "sandbox.backend=dokcer", "--set", "topics.n_topic=3") == 1
    error = capsys.readouterr().err
    assert "sandbox.backend" in error and "did you mean 'n_topics'?" in error
    assert not (repo / "outputs").exists()


def test_kernels_of_two_runs_share_no_sockets(repo: Path) -> None:
    write_notebook(repo, "01_topics", "from pathlib import Path; assert not list(Path().glob('*-ipc-*'))")
    assert run("--to", "01") == 0


def test_a_second_run_in_the_same_folder_is_refused(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = repo / "outputs" / "offline"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run("--to", "01") == 1
    assert "another `synthkit run` is at work in outputs/offline" in capsys.readouterr().err
    assert executed(repo) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_says_how_to_go_on_and_leaves_no_kernel(repo: Path, sent: signal.Signals) -> None:
    os.mkfifo(repo / "kernel")
    kernel = os.open(repo / "kernel", os.O_RDONLY | os.O_NONBLOCK)
    write_notebook(repo, "01_topics", "import time; pipe = open('kernel', 'wb', 0); pipe.write(b'up'); time.sleep(120)")
    command = [sys.executable, "-m", "synthkit", "run", PROFILE, "--run", "mine", "--to", "02"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert read_pipe(kernel) == b"up"
    process.send_signal(sent)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines() == [
        "interrupted; everything finished is kept. Go on with: synthkit run params/offline.yaml --run mine --to 02",
    ]
    assert read_pipe(kernel) == b"", "the pipe ends with the kernel that holds its other end"
    assert load_stage_record(repo / "outputs" / "mine", "01_topics") is None


def read_pipe(pipe: int) -> bytes:
    """What comes next, within a minute; nothing when the last writer has gone."""
    assert select.select([pipe], [], [], 60)[0]
    return os.read(pipe, 9)
