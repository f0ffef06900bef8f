"""Evaluates submissions one after the other, each in a fork of this interpreter. Run in the sandbox, never imported.

Reads a plan of runs, writes one JSON line for each as it ends, and leaves the rest out once one has overrun its time.
A fork costs a few milliseconds, where a run of its own costs the start of an interpreter.
"""

import contextlib
import json
import os
import random
import runpy
import signal
import sys
import traceback
from pathlib import Path

PATHS = ("script", "submission", "folder")


def main(plan_file: str, results_file: str) -> None:
    """Run every evaluation of the plan in turn; one JSON line for each goes to the results file."""
    plan = json.loads(Path(plan_file).read_text())
    home, log = os.getcwd(), Path(results_file).with_suffix(".log")
    signal.signal(signal.SIGALRM, stop_waiting)
    with open(results_file, "w") as results:
        for run in plan["runs"]:
            pid = os.fork()
            if pid == 0:
                try:
                    script, submission, folder = (os.path.join(home, run[name]) for name in PATHS)
                    enter(script, submission, folder, log)
                finally:
                    os._exit(1)
            exit_code = wait_for(pid, plan["limit_s"])
            result = {"name": run["name"], "exit_code": exit_code, "timed_out": exit_code is None,
                      "output": read_output(log, plan["output_bytes"])}
            results.write(json.dumps(result) + "\n")
            results.flush()
            if exit_code is None:
                break


def enter(script: str, submission: str, folder: str, log: Path) -> None:
    """Become the evaluation of a submission. Each draws its own seeds, as it would in a new interpreter."""
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.chdir(folder)
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    sys.argv, sys.path[0] = [script, "--submission_file", submission], os.path.dirname(script)
    code = execute(script)
    sys.stdout.flush()
    sys.stderr.flush()
    # An interpreter's full ending costs more than most evaluations.
    os._exit(code)


def execute(script: str) -> int:
    """The exit code of a script; what it raises is reported as the interpreter does."""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return int(end.code or 0) & 255
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename != script:
            trace = trace.tb_next
        sys.stdout.flush()
        traceback.print_exception(error.with_traceback(trace))
        return 1
    return 0


def stop_waiting(number: int, frame: object) -> None:
    """The alarm's handler: it ends the wait for a run."""
    raise TimeoutError


def wait_for(pid: int, limit_s: float) -> int | None:
    """A run's exit code, negative for the signal that ended it; None when it was stopped at its limit."""
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    status = None
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except TimeoutError:
        # It may have ended just now.
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return status


def read_output(log: Path, most: int) -> str:
    """What a run printed: all of it, or its head and tail."""
    data = log.read_bytes()
    if len(data) > most:
        data = data[:most // 2] + b"\n...\n" + data[-most // 2:]
    return data.decode("utf-8", "replace")


if __name__ == "__main__":
    main(*sys.argv[1:])
