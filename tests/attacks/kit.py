"""What attacks are made of: the attack as data, and the world it is played in, with secrets that must not come out.

`@NAME@` in an action stands for something of the host: a port, a path (see `World.fill`).
"""

import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from synthkit.core.params import SandboxParams
from synthkit.gym import environment
from synthkit.gym.scoring.csv_form import choose_rows
from synthkit.gym.task import Task, build_csv_task, write_task
from synthkit.gym.task.config import TaskMeta

TASK_ID = "attacked"
# No text for the shell: the kit forks the episode here, and the fork says which folder it is in.
FORK = "(the kit forks the episode)"
ROWS = 20
RIGHT_ROWS = 15
SHARED = {"warm_modules": ["pandas"]}
# Only a hang takes so long. Processor time is out of reach but where it is under test: what a slow machine takes to
# use up something else must not.
HANG_S = 300
LIMITS = {"memory_mb": 300, "processes": 40, "cpu_s": 3 * HANG_S, "disk_mb": 30, "file_mb": 64, "open_files": 64,
          "output_kb": 8}
# (sandbox, seconds that an action with Python in it may take); in `code` and `star` the submission is a
# function, not a table; the evaluation of `star` imports all that the module offers.
PROFILES = {
    "code": (SandboxParams(warm=False, disk_mb=40), HANG_S),
    "star": (SandboxParams(warm=False, disk_mb=40), HANG_S),
    "warm": (SandboxParams(**SHARED), HANG_S),
    "cold": (SandboxParams(warm=False), HANG_S),
    "small": (SandboxParams(**SHARED, **LIMITS), HANG_S),
    "busy": (SandboxParams(**SHARED, **LIMITS | {"cpu_s": 5}), HANG_S),
    "brief": (SandboxParams(**SHARED, **LIMITS), 1),
}
META = TaskMeta(metric="accuracy", direction="maximize", task_kind="classification", target="y",
                baseline_public=0.5, baseline_private=0.5)
BASELINE = "print('id,y', *(f'{i},0' for i in range(20)), sep='\\n', file=open('submission.csv', 'w'))\n"
EVALUATE = """import argparse, json, pathlib
import pandas as pd
parser = argparse.ArgumentParser()
parser.add_argument("--submission_file")
said = pd.read_csv(parser.parse_args().submission_file)
both = pd.read_csv(pathlib.Path(__file__).parent / "data/answers.csv").merge(said, on="id", suffixes=("", "_said"))
print(json.dumps({"accuracy": float((both["y"] == both["y_said"]).mean())}))
"""
HONEST = f"(echo id,y; for i in $(seq 0 {ROWS - 1}); do echo $i,$((i < {RIGHT_ROWS} ? i % 2 : 1 - i % 2)); done)"
CODE_ID = "attacked_code"
EVALUATE_CODE = """import json
from solution import {names}
print(json.dumps({{"accuracy": sum(guess(i) == i % 2 for i in range(20)) / 20}}))
"""
HONEST_CODE = f"def guess(i):\n    return i % 2 if i < {RIGHT_ROWS} else 1 - i % 2\n"
WRITE_CODE = f"chmod -R u+rwX .; rm -rf solution.py; cat > solution.py <<'END'\n{HONEST_CODE}END"
WRITE_HONEST = f"chmod u+rwx . ; rm -rf submission.csv; {HONEST} > submission.csv"


@dataclass(frozen=True)
class Attack:
    """What an agent sends, and what has to be seen of it.

    `seen` is a pattern that an observation has to match: it names what the attack was, or how it failed. `profile` is
    the sandbox (PROFILES). `scored`: a validate among the actions gets a score, which has to be the true one.
    """

    name: str
    family: str
    actions: tuple[str, ...]
    seen: str
    profile: str = "warm"
    scored: bool = False


@dataclass(frozen=True)
class Game:
    """A task with what honest work on it is, and the scores that it has to get: what validate and submit score."""

    task: Task
    write_honest: str
    public: float
    private: float


class World:
    """A task with secret answers, and the host's secrets around it: `canary` is part of each of them."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder = folder
        self.canary = f"CANARY{secrets.token_hex(12)}"
        self.root, self.home, self.run = folder / "root", folder / "home", folder / "outputs" / "other_run"
        table = Game(make_task(self.root, self.canary), WRITE_HONEST, find_share("public"), find_share("private"))
        share = RIGHT_ROWS / ROWS
        code, star = (Game(make_code_task(self.root, self.canary, names), WRITE_CODE, share, share)
                      for names in ("guess", "*"))
        self.games = dict.fromkeys(PROFILES, table) | {"code": code, "star": star}
        for path in (self.home / ".ssh/id_ed25519", self.home / ".netrc", self.run / "05_trajectories/secret.traj"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{self.canary}\n", encoding="utf-8")
        # Not the canary itself: an attacker who names it would have it in an error message.
        self.abstract = f"ATTACKED{secrets.token_hex(6)}"
        self.socket = str(folder / "host.sock")
        addresses = {"TCP": ("", 0), "UDP": ("", 0), "UNIX": self.socket, "ABSTRACT": f"\0{self.abstract}"}
        self.listeners = {name: stack.enter_context(listen(name, address)) for name, address in addresses.items()}
        stack.enter_context(patch.object(environment, "ACTION_TIMEOUT_S", HANG_S))
        stack.enter_context(patch.dict(os.environ, {"OPENAI_API_KEY": f"sk-{self.canary}"}))
        self.before = self.fingerprint()

    def fill(self, action: str) -> str:
        """The action with the host's own names in it: an attacker who knows them all."""
        ports = {name: str(self.listeners[name].getsockname()[1]) for name in ("TCP", "UDP")}
        names = ports | {
            "ROOT": str(self.root), "HOME": str(self.home), "RUN": str(self.run), "KIT": os.getcwd(),
            "UNIX": self.socket, "ABSTRACT": self.abstract, "ADDRESS": find_address(), "PID": str(os.getpid()),
            "SECRET": str(self.root / f"data/{TASK_ID}/data/answers.csv"),
        }
        for name, value in names.items():
            action = action.replace(f"@{name}@", value)
        return action

    def fingerprint(self) -> dict[str, str]:
        """Every file of the host's part of the world, with its mode and content."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path): f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
                for path in files}

    def find_visits(self) -> list[str]:
        """The sockets of the host that somebody has come to."""
        return [name for name, listener in self.listeners.items() if was_visited(name, listener)]


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    """A world in a new folder, with its sockets, until the end of the `with`."""
    with ExitStack() as stack:
        yield World(folder, stack)


def make_task(root: Path, canary: str) -> Task:
    """The table task that is attacked: 20 rows to label, and a canary in its secret answers."""
    config, dataset = build_csv_task(TASK_ID, "Parity", "Tell odd from even.", "Numbers.", time_limit_s=HANG_S,
                                     meta=META)
    rows = [(i, i % 2) for i in range(ROWS)]
    write_task(root, config, [dataset], META, {
        "baseline.py": BASELINE, "evaluate.py": EVALUATE,
        "data/train.csv": "".join(["x,y\n", *(f"{i},{y}\n" for i, y in rows)]),
        "data/test.csv": "".join(["id,x\n", *(f"{i},{i}\n" for i, _ in rows)]),
        "data/sample_submission.csv": "".join(["id,y\n", *(f"{i},0\n" for i, _ in rows)]),
        "data/answers.csv": "".join(["id,y,note\n", *(f"{i},{y},{canary}\n" for i, y in rows)]),
    })
    return Task.load(root, TASK_ID)


def make_code_task(root: Path, canary: str, names: str) -> Task:
    """A task of MLGym's kind whose submission is Python code, of which evaluate.py, the secret, imports `names`."""
    task_id = CODE_ID if names == "guess" else f"{CODE_ID}_star"
    meta = META.model_copy(update={"score_on": "all"})
    config, dataset = build_csv_task(task_id, "Parity", "Tell odd from even.", "Numbers.", time_limit_s=HANG_S,
                                     meta=meta)
    changed = {"task_entrypoint": "PythonSubmissionTasks", "secret_files": ["evaluate.py"], "sample_submission": None,
               "baseline_paths": [], "starter_code": [f"data/{task_id}/{name}.py" for name in ("solution", "evaluate")]}
    write_task(root, config.model_copy(update=changed), [dataset], meta, {
        "solution.py": "def guess(i):\n    return 0\n",
        "evaluate.py": f"# {canary}\n{EVALUATE_CODE.format(names=names)}",
        "data/train.csv": "x,y\n0,0\n1,1\n",
    })
    return Task.load(root, task_id)


def find_share(part: str) -> float:
    """The accuracy of HONEST on a part of the rows."""
    chosen = choose_rows(TASK_ID, [str(i) for i in range(ROWS)], part)
    return sum(int(key) < RIGHT_ROWS for key in chosen) / len(chosen)


@contextmanager
def listen(name: str, address: tuple[str, int] | str) -> Iterator[socket.socket]:
    """A socket of the host's that nobody in a sandbox may reach; a text as address is a unix socket."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if name == "UDP" else socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.setblocking(False)
        if name != "UDP":
            listener.listen(8)
        yield listener


def was_visited(name: str, listener: socket.socket) -> bool:
    """Whether a datagram or a connection has come to a socket since the last look."""
    try:
        if name == "UDP":
            listener.recv(1)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def find_address() -> str:
    """This machine's own address on a network, as far as it has one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]
