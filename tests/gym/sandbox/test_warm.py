"""A run forked from the warm interpreter is like a run of the real one, and has no more rights."""

import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Sandbox, open_sandbox
from synthkit.gym.sandbox.backends import warm

HANG_S = 300
BACKENDS = ["process", *(["bwrap"] if shutil.which("bwrap") else [])]
COLD = "/opt/python/bin/python"
# Loaded in the warm interpreter and not imported by any script here: tells the two apart.
MARK = "'mailbox' in __import__('sys').modules"


@pytest.fixture(scope="module", params=BACKENDS)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    params = SandboxParams(backend=request.param, warm_modules=["mailbox", "random", "no_such_module"])
    with open_sandbox(tmp_path_factory.mktemp("workspace"), params) as sandbox:
        assert sandbox.cold_reason == ""
        yield sandbox


def run(session: Sandbox, command: str) -> tuple[str, int | None]:
    result = session.run(command, HANG_S)
    return result.output, result.exit_code


def write(session: Sandbox, name: str, text: str) -> None:
    path = session.workspace / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


SCRIPTS = {
    "main": "print(__name__, __file__, __doc__, __spec__, __package__, sorted(globals()))",
    "argv": "import sys; print(sys.argv, sys.orig_argv[1:], sys.path[0], sys.executable, sys.flags)",
    "streams": "import sys\nfor s in (sys.stdin, sys.stdout, sys.stderr):\n"
               "    print(s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.isatty(), s.fileno())",
    "environment": "import os; del os.environ['_']; print(sorted(os.environ.items()), os.getcwd(), os.umask(0))",
    "traceback": "print('before')\ndef f():\n    return 1 / 0\n\ntry:\n    f()\nexcept ZeroDivisionError as e:\n"
                 "    raise KeyError(2) from e",
    "syntax": "x = 1\nif x\n    pass\n",
    "exit text": "import sys; sys.exit('goodbye')",
    "exit 300": "raise SystemExit(300)",
    "exit None": "import sys; sys.exit()",
    "interrupted": "raise KeyboardInterrupt",
    "aborted": "import os; os.abort()",
    "hook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0])\nraise ValueError",
    "atexit": "import atexit, sys\natexit.register(print, 'last')\nprint('first')\nsys.exit(3)",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()",
    "unclosed": "f = open('left', 'w'); f.write('kept'); import sys; sys.modules['keep'] = f",
    "deleted": "class A:\n    def __del__(self): print('deleted')\na = A()",
    "pickle": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))))",
    "inspect": "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f))",
    "pool": "import multiprocessing as m\nif __name__ == '__main__':\n    with m.Pool(1) as p: print(p.map(abs, [-1]))",
    "spawn": "import multiprocessing as m\nif __name__ == '__main__':\n"
             "    with m.get_context('spawn').Pool(1) as p: print(p.map(abs, [-1]))",
    "child": "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True))",
    "sibling": "import program; print(program.VALUE, program.__file__)",
    "stdin": "import sys; print(sys.stdin.read())",
    "limits": "import resource as r\nfor n in ('CPU', 'DATA', 'FSIZE', 'NOFILE'):\n"
              "    print(r.getrlimit(getattr(r, 'RLIMIT_' + n)))",
    "rights": "print([l for l in open('/proc/self/status') if l[:3] in ('Cap', 'NoN', 'Uid', 'Gid')])",
    "files": "import os; print(sorted(os.listdir('/proc/self/fd')))",
    "signals": "import signal; print([signal.getsignal(n) for n in (2, 13, 15, 17)])",
    "unicode": "print('grün 🌱'); import sys; print('\\udce4', file=sys.stderr)",
    "warning": "import warnings; warnings.warn('careful', DeprecationWarning)",
}


CALLS = [
    "-c 'import sys; print(sys.argv, sys.path[0], __name__); 1/0' x y", "-c '1 +'", "< sub/script.py",
    "- x <<'EOF'\nimport sys\nprint(sys.argv, sys.stdin.read())\n1/0\nEOF", "-m helper x", "-m sub.script",
    "-m nonesuch", "-m json.tool --compact given.json", "nonesuch.py", "sub", "--version", "-c", "-u sub/script.py",
    "-W error sub/script.py", "-Ic 'import sys; print(sys.flags)'",
]


def run_alike(session: Sandbox, command: str) -> None:
    """Run a command with the name `python` and with the real interpreter, and compare all that a caller can see."""
    seen = []
    for python in ("python", COLD):
        output, code = run(session, command.format(python=python))
        # bash names the process and the command of one that a signal ended.
        seen.append((re.sub(r" *\d+ (Aborted|Done)", r"\1", output.replace(COLD, "python")), code))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_alike(session: Sandbox, name: str) -> None:
    write(session, "sub/script.py", SCRIPTS[name])
    write(session, "sub/program.py", "VALUE = 7")
    run_alike(session, "rm -f left; echo in | {python} sub/script.py a 'b c'; echo $?; cat left")


@pytest.mark.parametrize("call", CALLS)
def test_a_call_runs_alike(session: Sandbox, call: str) -> None:
    write(session, "sub/script.py", "import sys; print(sys.argv, sys.path[0], __name__, __spec__ and __spec__.name)")
    write(session, "helper.py", "import sys; print(sys.argv, sys.path[0], __name__); raise RuntimeError('so')")
    write(session, "given.json", '{"a": 1}')
    run_alike(session, "{python} " + call)


def test_plain_runs_are_warm_and_others_are_not(session: Sandbox) -> None:
    write(session, "mark.py", f"print({MARK})")
    (session.workspace / "run").write_text(f"#!/usr/bin/env python3\nprint({MARK})")
    (session.workspace / "run").chmod(0o755)
    for call in ("python mark.py", "python3 mark.py", f"python -c \"print({MARK})\"", "python < mark.py",
                 "python -m mark", "./run", "X=1 python mark.py"):
        assert run(session, call) == ("True\n", 0), call
    for call in ("python -I mark.py", "PYTHONHASHSEED=1 python mark.py", "OMP_NUM_THREADS=2 python mark.py",
                 "python mark.py 5<mark.py", "python mark.py <&-", f"{COLD} mark.py"):
        assert run(session, call) == ("False\n", 0), call


def test_random_numbers_differ_between_runs(session: Sandbox) -> None:
    command = "python -c 'import random; print(random.random())'"
    assert run(session, command) != run(session, command)


def test_signals_and_ends_pass_through(session: Sandbox) -> None:
    handler = ("import signal, sys, time; signal.signal(15, lambda *a: sys.exit(9)); print(1, flush=True); "
               "time.sleep(600)")
    ready = "until [ -s out ]; do sleep 0.1; done"
    assert run(session, f"python -c '{handler}' > out & {ready}; kill %1; wait %1; echo $?; rm out")[0].endswith("9\n")
    assert run(session, "timeout 1 python -c 'import time; time.sleep(600)'; echo $?") == ("124\n", 0)
    assert run(session, "python -c 'import os; os.kill(os.getpid(), 9)' 2>/dev/null; echo $?")[0].endswith("137\n")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_kernels_limit_of_processor_time_holds_for_a_warm_run(backend: str, tmp_path: Path) -> None:
    with open_sandbox(tmp_path, SandboxParams(backend=backend, warm_modules=["mailbox"], cpu_s=1)) as sandbox:
        assert sandbox.cold_reason == ""
        assert run(sandbox, "python -c 'while 1: pass' 2>/dev/null; echo $?")[0].endswith("152\n")


def test_a_timeout_and_a_lost_shim_end_the_program(session: Sandbox) -> None:
    sleeper = "import time; print(1, flush=True); time.sleep(600)"
    assert session.run(f"python -c '{sleeper}'", 1).timed_out
    writer = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    # The program's end follows its shim's by a moment.
    command = (f"python -c '{writer}' > out & until [ -s out ]; do :; done; kill -9 %1; wait; "
               "while [ -d /proc/$(cat out) ]; do :; done; echo gone")
    assert run(session, command)[0].endswith("gone\n")


def test_a_warm_run_sees_no_more_than_its_sandbox(tmp_path: Path) -> None:
    if "bwrap" not in BACKENDS:
        pytest.skip("bubblewrap is not installed")
    with open_sandbox(tmp_path, SandboxParams(warm_modules=["mailbox"])) as sandbox:
        program = "import os; print(os.path.exists('/etc/shadow'), os.listdir('/home/agent'), os.getppid())"
        assert run(sandbox, f'python -c "{program}"') == ("False ['workspace'] 0\n", 0)
        assert run(sandbox, "python -c 'import os; os.setgroups([])' 2>&1 | tail -1")[0].startswith("PermissionError")


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with open_sandbox(tmp_path, SandboxParams(backend="process", warm=False)) as sandbox:
        assert sandbox.cold_reason
        assert run(sandbox, f'python -c "print({MARK})"') == ("False\n", 0)


def test_without_the_interpreter_runs_are_cold(tmp_path: Path) -> None:
    modules = ["mailbox", "colorsys"]
    params = SandboxParams(backend="process", warm_modules=modules)
    with open_sandbox(tmp_path, params) as sandbox:
        assert run(sandbox, f'python -c "print({MARK})"') == ("True\n", 0)
        process = warm.find_zygote(tuple(modules)).process
        process.kill()
        process.wait()
        assert run(sandbox, f'python -c "print({MARK})"') == ("False\n", 0)
    with open_sandbox(tmp_path, params) as sandbox:
        assert run(sandbox, f'python -c "print({MARK})"') == ("True\n", 0)


def test_a_sandbox_that_ended_early_spoils_nothing(tmp_path: Path) -> None:
    params = SandboxParams(backend=BACKENDS[-1], warm_modules=["mailbox", "decimal"])
    for _ in range(3):
        with open_sandbox(tmp_path, params):
            pass
    with open_sandbox(tmp_path, params) as sandbox:
        assert run(sandbox, f'python -c "print({MARK})"') == ("True\n", 0)
        assert sandbox.cold_reason == ""


def test_a_refused_sandbox_is_turned_away_at_once(tmp_path: Path) -> None:
    own = os.pidfd_open(os.getpid())
    # The kernel lets nobody enter the user namespace that he is in.
    lease = warm.lease_warm(tmp_path / "warm.sock", ["mailbox", "sched"], {}, own)
    os.close(own)
    assert lease.refusal().startswith("setns: ")
    with socket.socket(socket.AF_UNIX) as shim, pytest.raises(ConnectionRefusedError):
        shim.connect(str(tmp_path / "warm.sock"))
    lease.close()
