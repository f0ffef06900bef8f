"""The headless run on small notebooks: what is accepted, what is skipped, and how every kind of end is told."""

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from kits.chain_kit import finish_before, finish_stage
from kits.places import ROOT
from nbformat.v4 import new_code_cell, new_notebook

from synthkit.cli import main
from synthkit.core.chain import load_stage_record
from synthkit.core.params import STAGES
from synthkit.core.profiles import load_params
from synthkit.doctor import Check

FINISH = "stage.finish(3, 2, {'same': 1})"
PROFILE = "params/offline.yaml"
COMMAND = [sys.executable, "-m", "synthkit", "run", PROFILE, "--run", "mine", "--to", "02"]


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
    opening = f"from synthkit.core.opening import open_stage\nstage = open_stage({name!r}, globals())"
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
    # Two runs in one folder must not share their kernels' sockets.
    write_notebook(repo, "01_topics", "import os; assert os.environ['PYTHONHASHSEED'] == '0' and n_topics == 5\n"
                                      "assert not [name for name in os.listdir() if '-ipc-' in name]")
    assert run("--to", "02", "--set", "topics.n_topics=5") == 0
    said = capsys.readouterr().out
    assert "refused: same 1" in said and "report: outputs/offline/report.html" in said
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
    ("{}['boom']", FINISH, "failed: KeyError: 'boom'", "open outputs/offline/notebooks/"),
    ("from synthkit.core.errors import EndpointError; raise EndpointError('it is gated', 'accept its terms')", FINISH,
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


@pytest.mark.parametrize("attempt", [None, "another"])
def test_a_notebook_that_leaves_no_record_of_its_attempt_has_not_finished(
        repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], attempt: str | None) -> None:
    def execute(source: Path, output: Path, *_: Any) -> None:
        output.parent.mkdir(parents=True)
        shutil.copy(source, output)
        if attempt:
            finish_stage(repo / "outputs" / "offline", "01_topics")

    monkeypatch.setattr("synthkit.runner.execute_notebook", execute)
    assert run("--to", "02") == 1
    error = capsys.readouterr().err
    assert "01_topics ended in cell" in error and "without its completion record" in error
    assert "fix: look at that cell" in error


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


def test_a_second_run_in_the_same_folder_is_refused(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = repo / "outputs" / "offline"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run("--to", "01") == 1
    assert "another process is at work in outputs/offline" in capsys.readouterr().err
    assert executed(repo) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_says_how_to_go_on_and_leaves_no_kernel(repo: Path, sent: signal.Signals) -> None:
    os.mkfifo(repo / "kernel")
    kernel = os.open(repo / "kernel", os.O_RDONLY | os.O_NONBLOCK)
    write_notebook(repo, "01_topics", "import time; pipe = open('kernel', 'wb', 0); pipe.write(b'up'); time.sleep(600)")
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert read_pipe(kernel) == b"up"
    process.send_signal(sent)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert error.splitlines() == [
        "stopping: waiting for what is under way; interrupt again to end at once",
        "interrupted; everything finished is kept. Go on with: synthkit run params/offline.yaml --run mine --to 02",
    ]
    assert read_pipe(kernel) == b"", "the pipe ends with the kernel that holds its other end"
    assert load_stage_record(repo / "outputs" / "mine", "01_topics") is None


DRAIN = """
import time
pipe = open('kernel', 'wb', 0)
try:
    pipe.write(b'up')
    time.sleep(600)
except KeyboardInterrupt:
    pipe.write(b'stopping')
    time.sleep(DRAIN_S)
    open('drained', 'w').write('what was under way')
    RAISE
"""


@pytest.mark.parametrize(("then", "seconds"), [("raise", 7), ("pass", 0), ("raise ValueError('of the stop')", 0)])
def test_what_is_under_way_ends_before_an_interrupted_kernel_does(repo: Path, then: str, seconds: int) -> None:
    """Once longer than jupyter_client waits before it kills; no cell is begun after it, whatever becomes of this one.
    """
    process, kernel = start_cell(repo, DRAIN.replace("DRAIN_S", str(seconds)).replace("RAISE", then))
    process.send_signal(signal.SIGTERM)
    assert read_pipe(kernel) == b"stopping"
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130 and "interrupted; everything finished is kept" in error
    assert error.count("stopping: ") == 1 and "Traceback" not in error
    assert read_pipe(kernel) == b"" and (repo / "drained").exists() and not (repo / "after").exists()
    assert load_stage_record(repo / "outputs" / "mine", "01_topics") is None


def test_a_second_interrupt_ends_the_kernel_at_once(repo: Path) -> None:
    process, kernel = start_cell(repo, DRAIN.replace("DRAIN_S", "600").replace("RAISE", "pass"))
    process.send_signal(signal.SIGINT)
    assert read_pipe(kernel) == b"stopping"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130 and "interrupted; " in error and "was killed" not in error
    assert read_pipe(kernel) == b"" and not (repo / "drained").exists()


def test_an_interrupt_while_the_kernel_starts_begins_no_cell(repo: Path) -> None:
    write_notebook(repo, "01_topics", "open('begun', 'w').close()")
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and "running" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130 and "interrupted; " in error and "Traceback" not in error
    assert not (repo / "begun").exists()


def test_the_kernel_works_under_the_runners_lock(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = ("import subprocess, sys; from synthkit.core import lock; assert stage.run_dir.resolve() in lock._held\n"
            "code = 'from synthkit.core.opening import open_stage; open_stage(\"01_topics\", {\"n_topics\": 3})'\n"
            "done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, close_fds=False)\n"
            "assert 'another process is at work in outputs/offline' in done.stderr, done.stderr")
    write_notebook(repo, "01_topics", body)
    assert run("--to", "01") == 0, capsys.readouterr().err


def start_cell(repo: Path, body: str) -> "tuple[subprocess.Popen[str], int]":
    """A run whose kernel has begun this cell, and the pipe on which the kernel speaks."""
    os.mkfifo(repo / "kernel")
    kernel = os.open(repo / "kernel", os.O_RDONLY | os.O_NONBLOCK)
    write_notebook(repo, "01_topics", body, "open('after', 'w').close()")
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert read_pipe(kernel) == b"up"
    return process, kernel


@pytest.fixture
def finished(repo: Path) -> Path:
    """The folder of a run that is complete, its stages finished without work."""
    finish_before(repo / "outputs" / "offline", "", profile_values(repo))
    return repo / "outputs" / "offline"


def profile_values(repo: Path) -> dict[str, dict[str, Any]]:
    stages = load_params([repo / "params" / "base.yaml", repo / PROFILE])
    return {name: params.model_dump() for name, params in stages.items()}


def test_the_needs_of_all_that_will_run_are_looked_at_first(
        finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[list[str]] = []

    def find_blockers(stages: Any, pending: list[str]) -> list[Check]:
        asked.append(pending)
        return [Check("gpu", False, True, "none", "use another machine")] if pending else []

    monkeypatch.setattr("synthkit.doctor.find_blockers", find_blockers)
    monkeypatch.setattr("synthkit.runner.finish_run", lambda *_: None)
    assert run() == 0 and asked == [[]]
    assert run("--set", "topics.n_topics=5") == 1
    assert run("--from", "03", "--to", "05", "--set", "codegen.sample_rows=1") == 1
    assert asked[1:] == [list(STAGES), ["03_codegen", "04_self_debug", "05_trajectories"]]
    assert "gpu: none\n  fix: use another machine" in capsys.readouterr().err
    assert not list(finished.glob("notebooks/*")) and not (finished / "archive").exists()


def test_earlier_stages_that_do_not_stand_on_one_another_are_refused(
        finished: Path, repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_stage(finished, "02_datasets", **profile_values(repo)["02_datasets"] | {"max_train_rows": 50})
    assert run("--from", "04") == 1
    error = capsys.readouterr().err
    assert "04_self_debug needs 03_codegen, but 02_datasets has been made again" in error
    assert "fix: start earlier: --from 03" in error


def test_a_students_server_is_asked_when_there_is_a_student(
        finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = ("--from", "06", "--set", "mlgym_eval.student.base_url=http://127.0.0.1:9/v1", "--set", "sft.epochs=9.0")
    assert run("--from", "06", "--set", "mlgym_eval.student.base_url=here") == 1
    assert "'here' is no address of a server" in capsys.readouterr().err and not list(finished.glob("notebooks/*"))
    assert run(*served) == 1
    error = capsys.readouterr().err
    assert "student endpoint: http://127.0.0.1:9/v1 cannot be reached" in error and "serve base and student" in error
    assert [path.name[:6] for path in finished.glob("notebooks/*.ipynb")] == ["06_sft"]
    assert run(*served) == 1 and "student endpoint" in capsys.readouterr().err
    assert len(list(finished.glob("notebooks/*.ipynb"))) == 1


def test_work_of_other_code_is_kept_and_made_again_only_when_asked(
        repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = repo / "outputs" / "offline"
    with monkeypatch.context() as patch:
        patch.setattr("synthkit.core.opening.hash_code", lambda name: f"old {name}")
        finish_before(folder, "02_datasets", profile_values(repo))
    finish_stage(folder, "02_datasets", **profile_values(repo)["02_datasets"])
    finish_stage(folder, "03_codegen", **profile_values(repo)["03_codegen"])
    assert run("--to", "02") == 0
    said = capsys.readouterr().out
    assert "complete already (made by other code)" in said and said.count("made by other code") == 1
    assert (load_stage_record(folder, "01_topics") or {})["made_by_other_code"] is True
    assert executed(repo) == []
    assert run("--only", "02", "--remake-changed-code") == 0 and executed(repo) == []
    assert run("--to", "02", "--remake-changed-code") == 0
    assert executed(repo) == ["01_topics", "02_datasets"]
    assert sorted(path.name for path in folder.glob("archive/*")) == ["01_topics.0", "02_datasets.0", "03_codegen.0"]
    assert (load_stage_record(folder, "01_topics") or {})["made_by_other_code"] is False


def test_a_run_of_an_older_kit_is_refused_in_words(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = repo / "outputs" / "offline" / "01_topics"
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text('{"name": "01_topics", "attempt": "a", "fingerprint": "f", "kept": 1}')
    assert run("--to", "02") == 1
    assert "was made by an older version of the kit" in capsys.readouterr().err


def test_flat_parameters_are_written_for_plain_papermill(
        repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ("--set", "sft.learning_rate=2e-5", "--set", "teacher.budget_usd=3", "--set", "run.seed=7")
    assert run("--write-params", str(tmp_path / "flat"), *sets) == 0
    assert "7 files" in capsys.readouterr().out and not (repo / "outputs").exists()
    flat = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "flat").glob("*.yaml")}
    assert sorted(flat) == list(STAGES)
    assert {name: set(values) for name, values in flat.items()} == {n: set(m.model_fields) for n, m in STAGES.items()}
    assert flat["06_sft"]["learning_rate"] == 2e-5 and isinstance(flat["01_topics"]["teacher"]["budget_usd"], float)
    stages = load_params([repo / "params" / "base.yaml", repo / PROFILE], sets[1::2])
    assert {name: STAGES[name].model_validate(values) for name, values in flat.items()} == stages


def read_pipe(pipe: int) -> bytes:
    """What comes next; only a hang takes minutes; nothing when the last writer has gone."""
    assert select.select([pipe], [], [], 300)[0]
    return os.read(pipe, 9)
