"""What `python` and `python3` are inside a sandbox: hands the run over to the warm interpreter, or starts the real one.

It runs isolated and without site (-IS), on built-in modules only, so it costs little more than a bare interpreter. The
run goes to the warm interpreter over the socket beside it, with argv, folder, environment and the three standard
streams; signals follow. What a fork cannot imitate goes to the real interpreter, as does everything when no warm
interpreter answers.
"""

import _signal  # type: ignore[import-not-found]  # built in, which `signal` is not
import _socket
import os
import sys

# Set in every sandbox. They take effect when an interpreter starts, so a run that changes them needs a new one.
ENVIRONMENT = {
    "HOME": "/home/agent",
    "LANG": "C.UTF-8",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}
DECISIVE = ("PYTHON", "OMP_", "OPENBLAS_", "MKL_", "GOMP_", "KMP_", "LD_", "LC_", "LANG", "MALLOC_")
ARCHIVES = (".pyc", ".pyz", ".zip", ".egg", ".whl")
FORWARDED = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGUSR2)


def is_warm_run(args: list[str]) -> bool:
    """Whether a fork of a plain interpreter can stand for this run."""
    decisive = {name: value for name, value in os.environ.items() if name.startswith(DECISIVE)}
    if decisive != {name: value for name, value in ENVIRONMENT.items() if name.startswith(DECISIVE)}:
        return False
    return has_plain_streams() and is_plain_call(args)


def is_plain_call(args: list[str]) -> bool:
    """`-c CODE`, `-m MODULE`, a script file, or a program on stdin; any other option is for the real interpreter."""
    if not args or args[0] == "-":
        return not os.isatty(0)
    if args[0] in ("-c", "-m"):
        return len(args) > 1
    return not args[0].startswith("-") and not args[0].endswith(ARCHIVES) and os.path.isfile(args[0])


def has_plain_streams() -> bool:
    """Whether 0, 1 and 2 are open and nothing else is: what multiprocessing starts inherits more."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return False
    return {int(name) for name in names if is_open(int(name))} == {0, 1, 2}


def is_open(fd: int) -> bool:
    """Whether a file descriptor is open."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def hand_over(args: list[str]) -> int | None:
    """The run's exit code, negative for a signal; None when it was not started."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(os.path.join(os.path.dirname(__file__), "warm.sock"))
        send_request(connection, args)
        if connection.recv(1) != b"+":
            return None
    except OSError:
        return None
    for number in FORWARDED:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, lambda number, _: connection.send(bytes([number])))
    report = connection.recv(16)
    # Without a report the interpreter was killed together with what watched it.
    return int(report) if report else -_signal.SIGKILL


def send_request(connection: _socket.socket, args: list[str]) -> None:
    """Send argv, folder, environment and the three streams over a connection. Raises OSError."""
    environment = [name + b"=" + value for name, value in os.environb.items()]
    fields = [sys.executable, os.getcwd(), str(len(args)), *args]
    payload = b"\0".join([*map(os.fsencode, fields), *environment])
    # Native ints: SCM_RIGHTS takes an array of C ints.
    streams = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2))
    header = len(payload).to_bytes(4, "big")
    connection.sendmsg([header], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    connection.sendall(payload)


def main() -> None:
    """Run what `python` was called with, warm or cold, and end as it ends."""
    args = sys.argv[1:]
    code = hand_over(args) if is_warm_run(args) else None
    if code is None:
        os.execv(sys.executable, [sys.executable, *args])
    if code < 0:
        if -code in FORWARDED:
            _signal.signal(-code, _signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 255)
