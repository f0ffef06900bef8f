"""The warm interpreter: a process with the libraries loaded that forks a child into a sandbox for each Python run.

Read from stdin by a plain interpreter, standard library only; `warm.py` starts it. It never reads what a sandbox sends:
for each connection it forks a handler, which takes the request, enters the sandbox's namespaces and forks the program
there. The handler stays outside of the PID namespace, out of reach, and reports the program's end to the shim.
A sandbox that ends takes its programs with it; when the kit ends, the control socket closes and this process ends.
"""

import atexit
import builtins
import contextlib
import ctypes
import fcntl
import gc
import importlib
import importlib.machinery
import io
import json
import os
import resource
import runpy
import select
import selectors
import signal
import socket
import struct
import sys
import threading
import types
from dataclasses import dataclass, field

# linux/sched.h: user, mount, PID, network, IPC and UTS namespaces.
NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_CAPBSET_DROP = 1, 4, 15, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
CAPABILITY_VERSION_3 = 0x20080522
MAX_REQUEST_BYTES = 4 << 20
MAX_PROGRAMS = 64
REQUEST_TIMEOUT_S = 10
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Guest:
    """One sandbox: where its shims connect, a process in its namespaces (None: not isolated), and its limits."""

    listener: socket.socket
    lifeline: socket.socket
    namespace: int | None
    limits: dict[str, int]
    handlers: set[int] = field(default_factory=set)


@dataclass
class Request:
    """A Python run as the shim was called; `streams` are file descriptors."""

    executable: str
    folder: str
    args: list[str]
    environment: dict[bytes, bytes]
    streams: list[int]


def load_modules(names: list[str]) -> list[str]:
    """Import what can be imported; returns the others."""
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    return missing


def serve(control: socket.socket, missing: list[str]) -> None:
    """Register sandboxes and fork handlers, until the kit closes the control socket."""
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select():
            if key.fileobj is control:
                if not add_guest(control, selector, missing):
                    return
            elif key.fileobj == key.data.lifeline:
                remove_guest(key.data, selector)
            elif key.fileobj == key.data.listener:
                accept(key.data, selector)
            else:
                reap(key.fd, key.data, selector)


def add_guest(control: socket.socket, selector: selectors.BaseSelector, missing: list[str]) -> bool:
    message, fds, _, _ = socket.recv_fds(control, 65536, 3)
    if not message:
        return False
    listener, lifeline = (socket.socket(fileno=fd) for fd in fds[:2])
    listener.setblocking(False)
    guest = Guest(listener, lifeline, fds[2] if len(fds) == 3 else None, json.loads(message))
    refusal = try_entering(guest)
    if not refusal:
        selector.register(listener, selectors.EVENT_READ, guest)
    selector.register(lifeline, selectors.EVENT_READ, guest)
    with contextlib.suppress(OSError):
        lifeline.send(json.dumps({"refusal": refusal, "missing": missing}).encode())
    return True


def try_entering(guest: Guest) -> str:
    """Why the kernel does not let this process into the sandbox's namespaces; '' when it does."""
    if guest.namespace is None:
        return ""
    pid = os.fork()
    if pid == 0:
        os._exit(LIBC.setns(guest.namespace, NAMESPACES) and ctypes.get_errno())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"setns: {os.strerror(code)}" if code else ""


def remove_guest(guest: Guest, selector: selectors.BaseSelector) -> None:
    for end in (guest.listener, guest.lifeline):
        with contextlib.suppress(KeyError):
            selector.unregister(end)
        end.close()
    if guest.namespace is not None:
        os.close(guest.namespace)
    for handler in guest.handlers:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handler, signal.SIGKILL)


def accept(guest: Guest, selector: selectors.BaseSelector) -> None:
    try:
        connection = guest.listener.accept()[0]
    except OSError:
        return
    with connection:
        if len(guest.handlers) >= MAX_PROGRAMS:
            return
        pid = os.fork()
        if pid == 0:
            try:
                handle(connection, guest)
            finally:
                os._exit(1)
    handler = os.pidfd_open(pid)
    guest.handlers.add(handler)
    selector.register(handler, selectors.EVENT_READ, guest)


def reap(handler: int, guest: Guest, selector: selectors.BaseSelector) -> None:
    os.waitid(os.P_PIDFD, handler, os.WEXITED)
    selector.unregister(handler)
    guest.handlers.discard(handler)
    os.close(handler)


def handle(connection: socket.socket, guest: Guest) -> None:
    """One run, in a process of its own: enter the sandbox, fork the program, wait for it, report its end."""
    connection.settimeout(REQUEST_TIMEOUT_S)
    request = receive(connection)
    if guest.namespace is not None and LIBC.setns(guest.namespace, NAMESPACES):
        return
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    pid = os.fork()
    if pid == 0:
        become_program(request, guest)
    connection.settimeout(None)
    connection.send(b"+")
    code = watch(connection, pid)
    with contextlib.suppress(OSError):
        connection.send(str(code).encode())
    os._exit(0)


def receive(connection: socket.socket) -> Request:
    header, streams, _, _ = socket.recv_fds(connection, 4, 3)
    size = struct.unpack("!I", header)[0]
    if size > MAX_REQUEST_BYTES or len(streams) != 3:
        raise ValueError("not a request of the shim")
    payload = bytearray()
    while len(payload) < size:
        data = connection.recv(size - len(payload))
        if not data:
            raise ValueError("the request broke off")
        payload += data
    executable, folder, count, *rest = bytes(payload).split(b"\0")
    args, environment = rest[:int(count)], rest[int(count):]
    pairs = dict(entry.split(b"=", 1) for entry in environment)
    return Request(os.fsdecode(executable), os.fsdecode(folder), list(map(os.fsdecode, args)), pairs, streams)


def watch(connection: socket.socket, pid: int) -> int:
    """The program's exit code, negative for a signal. Passes on signals from the shim; kills when the shim is gone."""
    program = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(program, select.POLLIN)
    poll.register(connection, select.POLLIN)
    while program not in (ready := dict(poll.poll())):
        try:
            number = connection.recv(1)
        except OSError:
            number = b""
        if not number:
            poll.unregister(connection)
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(program, number[0] if number else signal.SIGKILL)
    assert program in ready
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def become_program(request: Request, guest: Guest) -> None:
    """Give up every right, take the caller's place, run the program, and exit as Python would."""
    code = 1
    try:
        os.setsid()
        if guest.namespace is not None:
            drop_rights()
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        LIBC.prctl(PR_SET_NAME, b"python", 0, 0, 0)
        take_place(request)
        for name, limit in guest.limits.items():
            set_limit(getattr(resource, f"RLIMIT_{name}"), limit)
        code = run(request)
    finally:
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code & 255)


def drop_rights() -> None:
    """Entering a user namespace gives all capabilities in it: the program gets none, for good."""
    for capability in range(64):
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if LIBC.capset(header, (ctypes.c_uint32 * 6)()) or LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        os._exit(126)
    # The kernel took this away when the rights changed; without it a program cannot read its own /proc entries.
    LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def take_place(request: Request) -> None:
    """Streams, folder, environment: those of the shim. Nothing else of this process stays open."""
    streams = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in request.streams]
    for target, fd in enumerate(streams):
        os.dup2(fd, target)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request.folder)
    os.environb.clear()
    os.environb.update(request.environment)
    os.umask(0o022)


def set_limit(which: int, limit: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    spare = 1 if which == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else 0
    resource.setrlimit(which, (value, value + spare))


def run(request: Request) -> int:
    """Run -c, -m, a file or stdin as __main__; returns the exit code, negative for a signal to die by."""
    open_streams()
    reseed()
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    sys.executable = request.executable
    sys.orig_argv = [request.executable, *request.args]
    code = attempt(lambda: execute(request.args, main))
    code = attempt(threading._shutdown) or code
    attempt(atexit._run_exitfuncs)
    release(main)
    return code


def open_streams() -> None:
    """New text streams on 0, 1 and 2, encoded as the ones this interpreter was started with."""
    for fd, name, mode in ((0, "stdin", "rb"), (1, "stdout", "wb"), (2, "stderr", "wb")):
        old = getattr(sys, f"__{name}__")
        raw = open(fd, mode, closefd=False)
        lines = name == "stderr" or os.isatty(fd)
        stream = io.TextIOWrapper(raw, encoding=old.encoding, errors=old.errors, line_buffering=lines)
        stream.mode = mode[0]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def reseed() -> None:
    """What draws its seed at import draws it anew: two runs must not share random numbers that nobody fixed."""
    for name in ("random", "numpy.random"):
        if name in sys.modules:
            sys.modules[name].seed()


def execute(args: list[str], main: types.ModuleType) -> None:
    kind = args[0] if args else "-"
    if kind == "-m":
        sys.argv, sys.path[:0] = ["-m", *args[2:]], [os.getcwd()]
        runpy._run_module_as_main(args[1])
        return
    if kind == "-c":
        sys.argv, sys.path[:0] = ["-c", *args[2:]], [""]
        source, name = args[1].encode("utf-8", "surrogateescape"), "<string>"
    elif kind == "-":
        sys.argv, sys.path[:0] = args or [""], [""]
        source, name = sys.stdin.buffer.read(), "<stdin>"
    else:
        name = os.path.join(os.getcwd(), kind)
        sys.argv, sys.path[:0] = args, [os.path.dirname(os.path.realpath(name))]
        with open(name, "rb") as file:
            source = file.read()
        main.__dict__.update(__file__=name, __cached__=None)
    loader = importlib.machinery.BuiltinImporter
    main.__dict__.update(__loader__=importlib.machinery.SourceFileLoader("__main__", name)
                         if "__file__" in main.__dict__ else loader, __spec__=None)
    exec(compile(source, name, "exec", dont_inherit=True), main.__dict__)


def attempt(call: types.FunctionType) -> int:
    """Exit code of a call; what it raises is reported as the interpreter does, without the frames of this file."""
    try:
        call()
    except SystemExit as end:
        return exit_code(end.code)
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        try:
            sys.excepthook(type(error), error.with_traceback(trace), trace)
        except SystemExit as end:
            return exit_code(end.code)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def exit_code(value: object) -> int:
    if value is None or isinstance(value, int):
        return int(value or 0) & 255
    with contextlib.suppress(Exception):
        print(value, file=sys.stderr)
    return 1


def release(main: types.ModuleType) -> None:
    """What finalisation does that a program can see: objects end, files are written out. The rest would only cost."""
    main.__dict__.clear()
    gc.collect()
    streams = [stream for stream in gc.get_objects() if issubclass(type(stream), io.IOBase)]
    # Text before the buffers below it; the standard streams keep their descriptors.
    for stream in sorted(streams, key=lambda stream: not issubclass(type(stream), io.TextIOBase)):
        with contextlib.suppress(Exception):
            stream.flush()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    modules = json.loads(sys.argv[2])
    sys.path.pop(0)
    missing = load_modules(modules)
    gc.collect()
    gc.freeze()
    serve(control, missing)


if __name__ == "__main__":
    main()
