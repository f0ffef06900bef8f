"""Evaluates what an agent left when it is more than a table: a model, a language model, or Python code.

MLGym evaluates such a submission in the agent's own shell. Here its workspace is copied out (regular files only, in
sum no larger than the workspace may be) and evaluated in a fresh sandbox with the task's fixed files put back.

Python code does not even meet the evaluation: `isolation.py` runs it in a second sandbox and the evaluation calls it
from outside. Not covered: a model or language model is loaded by the evaluation's own process, and so is the code of a
task whose metric is the submission's time. Code that comes with one can print a score of its choice; MLGym's format
leaves no other way.
"""

import shlex
from pathlib import Path
from typing import Literal

from synthkit.core.errors import TaskError
from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Result, open_sandbox
from synthkit.gym.sandbox.backends.session_files import WORKSPACE
from synthkit.gym.sandbox.folders import open_folder
from synthkit.gym.sandbox.workspace import BadFile, clone_files, place_files, read_file
from synthkit.gym.scoring.isolation import run_apart
from synthkit.gym.task import Task
from synthkit.gym.task.published import PUBLISHED

Failure = Literal["submission_not_found", "bad_submission", "evaluation_format_error", "evaluation_timeout"]

STDOUT = ".evaluation.json"
DEFAULT_TIMEOUT_S = 3600
MAX_MESSAGE_CHARS = 300


class Unscored(Exception):
    """A submission that gets no score, and why."""

    def __init__(self, failure: Failure, message: str):
        super().__init__(message)
        self.failure: Failure = failure


def evaluate_folder(task: Task, workspace: Path, params: SandboxParams) -> bytes:
    """What the evaluation prints about a workspace. Raises Unscored, SandboxError."""
    python = task.config.task_entrypoint == "PythonSubmissionTasks"
    published = PUBLISHED.get(task.id)
    try:
        if python and not (published and published.timed):
            return evaluate_apart(task, workspace, params)
        return evaluate_together(task, workspace, params)
    except (BadFile, RecursionError) as error:
        said = str(error) if isinstance(error, BadFile) else "the folders of the workspace are nested too deeply"
        raise Unscored("bad_submission", said) from error


def evaluate_apart(task: Task, workspace: Path, params: SandboxParams) -> bytes:
    """What the evaluation prints that calls the workspace's Python code in another sandbox."""
    command = f"{find_command(task, 'evaluation', params)} >{STDOUT}"
    with open_folder() as first, open_folder() as second:
        scene, copy = Path(first), Path(second)
        clone_files(workspace, copy, params.disk_mb << 20)
        place_files({name: path for name, path in task.public_files().items() if task.is_fixed(name)}, copy,
                    replace=True)
        place_files(choose_scene(task, copy), scene)
        result = run_apart(task, scene, copy, command, params, find_timeout(task))
        return read_output(task, result, scene)


def choose_scene(task: Task, copy: Path) -> dict[str, Path]:
    """What stands beside the evaluation: the task's fixed files, and data that the agent was to change.

    Code that is the agent's stays out: where the agent took it away, its import fails, as it would in MLGym.
    """
    mine = [name for name in task.public_files() if not task.is_fixed(name)]
    data = {name: copy / name for name in mine if not name.endswith(".py") and (copy / name).is_file()}
    return {name: path for name, path in task.all_files().items() if name not in mine} | data


def evaluate_together(task: Task, workspace: Path, params: SandboxParams) -> bytes:
    """What the evaluation prints that runs on a copy of the workspace, the task's fixed files put back."""
    fixed = {name: path for name, path in task.all_files().items() if task.is_fixed(name)}
    with open_folder() as folder:
        scene = Path(folder)
        clone_files(workspace, scene, params.disk_mb << 20)
        place_files({**fixed, STDOUT: ""}, scene, replace=True)
        command = find_command(task, "evaluation", params)
        if task.config.task_entrypoint == "ModelSubmissionTasks":
            command += f" --config_fname {WORKSPACE}/{shlex.quote(find_model_config(task, scene))}"
        with open_sandbox(scene, params) as sandbox:
            result = sandbox.run(f"{command} >{STDOUT}", find_timeout(task))
        return read_output(task, result, scene)


def read_output(task: Task, result: Result, scene: Path) -> bytes:
    """What an evaluation has printed into its file in `scene`. Raises Unscored when it did not end well, BadFile."""
    check_result(task, result)
    return read_file(scene, STDOUT) or b""


def check_result(task: Task, result: Result) -> None:
    """Raises Unscored when an evaluation overran its time or failed."""
    if result.timed_out:
        raise Unscored("evaluation_timeout", f"the evaluation took longer than {find_timeout(task):g} s")
    if result.exit_code != 0:
        script = task.config.evaluation_paths[0]
        raise Unscored("bad_submission", find_message(result.output) or f"{script} exited with {result.exit_code}")


def find_model_config(task: Task, scene: Path) -> str:
    """The YAML file that describes the model: one of the agent's before one that the task came with."""
    known = {name: path.read_bytes() for name, path in task.all_files().items() if name.endswith(".yaml")}
    found = sorted(str(path.relative_to(scene)) for path in scene.rglob("*.yaml") if path.is_file())
    if not found:
        raise Unscored("submission_not_found", "no .yaml file describes the model")
    return next((name for name in found if (scene / name).read_bytes() != known.get(name)), found[0])


def find_command(task: Task, kind: Literal["baseline", "evaluation"], params: SandboxParams) -> str:
    """How MLGym starts a task's baseline or evaluation: with python, language models with torchrun on every GPU."""
    paths = task.config.baseline_paths if kind == "baseline" else task.config.evaluation_paths
    if not paths:
        raise TaskError(f"task {task.id} has no {kind}", f"name a script in {kind}_paths")
    script = shlex.quote(paths[0])
    if task.config.task_entrypoint != "LMSubmissionTasks":
        return f"python {script}"
    return f"torchrun --nproc_per_node={count_gpus(params)} --standalone {script}"


def count_gpus(params: SandboxParams) -> int:
    """GPUs that a sandbox sees; 1 where it sees none, for torchrun then starts one process on the CPU."""
    return max(1, len(list(Path("/dev").glob("nvidia[0-9]*"))) if params.gpus else 1)


def find_timeout(task: Task) -> float:
    """How long a task's baseline or evaluation may take, in seconds; 3600 where the task does not say."""
    return task.config.training_timeout or DEFAULT_TIMEOUT_S


def find_message(output: str) -> str:
    """The last line that a failed script printed: an exception's message, or what it says to its user."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:MAX_MESSAGE_CHARS] if lines else ""
