"""Runs an evaluation and the Python code that it evaluates in two sandboxes, so that no score can be made up.

In MLGym evaluate.py imports the agent's module, which then runs in the evaluation's process: it can print a score of
its own and leave, change the opponent, read the labels. Here a module of the agent's is replaced by a stand-in that
sends each call through a pair of pipes to the agent's own sandbox (`submission_proxy.py`). The pipes are the one thing
that the two workspaces have in common: hard links to the same two files.
"""

import ast
import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Result, open_sandbox
from synthkit.gym.sandbox.in_sandbox import submission_proxy
from synthkit.gym.sandbox.workspace import clear_way, place_files
from synthkit.gym.task import Task

PROXY = "submission_proxy.py"
SERVE_TIMEOUT_S = 25


def run_apart(task: Task, scene: Path, copy: Path, command: str, params: SandboxParams, timeout_s: float) -> Result:
    """Run an evaluation in `scene`, which holds the task's own files; `copy` holds the agent's workspace."""
    modules = find_modules(task, copy)
    proxy = Path(submission_proxy.__file__)
    stand_in = "import submission_proxy\n__getattr__ = submission_proxy.reach({!r}, frozenset({!r}))\n"
    taken = list_own_names(scene)
    stand_ins = {path: stand_in.format(name_module(path), taken) for path in modules}
    place_files({PROXY: proxy, **stand_ins}, scene, replace=True)
    place_files({PROXY: proxy}, copy, replace=True)
    for name in (submission_proxy.REQUESTS, submission_proxy.REPLIES):
        clear_way(copy, copy / name)
        os.mkfifo(scene / name)
        os.link(scene / name, copy / name)
    with open_sandbox(copy, params) as agent, open_sandbox(scene, params) as evaluation:
        if modules:
            agent.run(f"python {shlex.quote(PROXY)} >/dev/null 2>&1 &", SERVE_TIMEOUT_S)
        return evaluation.run(command, timeout_s)


def find_modules(task: Task, copy: Path) -> list[str]:
    """Paths of the agent's modules that an evaluation may import: starter files that are not fixed, and what it names.

    A name that Python or an installed library answers to is not among the latter: a numpy.py of the agent's making
    would stand for numpy.
    """
    starter = [name for name in task.public_files() if name.endswith(".py") and not task.is_fixed(name)]
    mine = {name for name in starter if (copy / name).is_file()}
    script = task.all_files()[task.config.evaluation_paths[0]]
    named = {f"{name}.py" for name in list_imports(script.read_text(encoding="utf-8"))
             if (copy / f"{name}.py").is_file() and f"{name}.py" not in task.all_files() and not is_library(name)}
    return sorted(mine | named)


def name_module(path: str) -> str:
    """The name by which a file of the workspace is imported."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def list_imports(source: str) -> set[str]:
    """The modules that a script imports anywhere in it."""
    nodes = list_nodes(source)
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return plain | set(filter(None, named))


def list_own_names(scene: Path) -> list[str]:
    """Every name that the evaluation's own scripts bind: a star import must not put the agent's in its place."""
    names: set[str] = set()
    for path in scene.rglob("*.py"):
        for node in list_nodes(path.read_text(encoding="utf-8", errors="replace")):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return sorted(names - {"*"})


def list_nodes(source: str) -> list[ast.AST]:
    """All nodes of a script's syntax tree; none for a text that is no Python."""
    try:
        return list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return []


def is_library(name: str) -> bool:
    """Whether a module of this name comes with Python or is installed beside the kit."""
    if name in sys.stdlib_module_names:
        return True
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
