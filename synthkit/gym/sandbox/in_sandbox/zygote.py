"""The warm interpreter: a process with the libraries loaded that forks a child into a sandbox for each Python run.

Started by warm.py from a folder of its own, with program.py beside it; standard library only. It never reads what a
sandbox sends: for each connection it forks a handler, which takes the request, enters the sandbox's namespaces and
forks the program there. The handler stays outside of the PID namespace, out of reach, and reports the program's end to
the shim. A sandbox that ends takes its programs with it; when the kit ends, the control socket closes, and this ends.
"""

import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import resource
import select
import selectors
import shutil
import signal
import socket
import struct
import sys
from dataclasses import dataclass, field

import program  # type: ignore[import-not-found]  # beside this file where it runs

# linux/sched.h: user, mount, PID, network, IPC and UTS namespaces.
NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_CAPBSET_DROP = 1, 4, 15, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
CAPABILITY_VERSION_3 = 0x20080522
MAX_REQUEST_BYTES = 4 << 20
MAX_PROGRAMS = 64
REQUEST_TIMEOUT_S = 10
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Guest:
    """One sandbox: where its shims connect, a process in its namespaces (None: not isolated), its limits, and the
    filter of system calls that its processes run under."""

    listener: socket.socket
    lifeline: socket.socket
    namespace: int | None
    limits: dict[str, int]
    filter: bytes
    handlers: set[int] = field(default_factory=set)


@dataclass
class Request:
    """A Python run as the shim was called; `streams` are file descriptors."""

    executable: str
    folder: str
    args: list[str]
    environment: dict[bytes, bytes]
    streams: list[int]


class Server:
    """Registers sandboxes and forks a handler for each connection, until the kit closes the control socket."""

    def __init__(self, control: socket.socket, missing: list[str]):
        self.control = control
        self.missing = missing
        self.selector = selectors.DefaultSelector()
        self.selector.register(control, selectors.EVENT_READ, None)
        self.may_enter = False

    def serve(self) -> None:
        """Answer whatever is ready until the kit closes the control socket."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.control:
                    if not self.add():
                        return
                elif key.fileobj is key.data.lifeline:
                    self.remove(key.data)
                elif key.fileobj is key.data.listener:
                    self.accept(key.data)
                else:
                    self.reap(key.fd, key.data)

    def add(self) -> bool:
        """Register the sandbox that the kit sends, and tell its lease; False when the kit has gone."""
        message, fds, _, _ = socket.recv_fds(self.control, 65536, 3)
        if not message:
            return False
        listener, lifeline = (socket.socket(fileno=fd) for fd in fds[:2])
        listener.setblocking(False)
        terms = json.loads(message)
        guest = Guest(listener, lifeline, fds[2] if len(fds) == 3 else None, terms["limits"],
                      bytes.fromhex(terms["filter"]))
        refusal = "" if guest.namespace is None or self.may_enter else try_entering(guest.namespace)
        # Of a success only: a sandbox that has ended by now refuses too.
        self.may_enter = self.may_enter or (guest.namespace is not None and not refusal)
        if refusal:
            # Who connects is turned away at once, and runs cold.
            listener.close()
        else:
            self.selector.register(listener, selectors.EVENT_READ, guest)
        self.selector.register(lifeline, selectors.EVENT_READ, guest)
        with contextlib.suppress(OSError):
            lifeline.send(json.dumps({"refusal": refusal, "missing": self.missing}).encode())
        return True

    def remove(self, guest: Guest) -> None:
        """Forget a sandbox that has ended, and kill the handlers of its runs."""
        for end in (guest.listener, guest.lifeline):
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(end)
            end.close()
        if guest.namespace is not None:
            os.close(guest.namespace)
        for handler in guest.handlers:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handler, signal.SIGKILL)

    def accept(self, guest: Guest) -> None:
        """Fork a handler for a shim that has connected; none beyond MAX_PROGRAMS at a time."""
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
        self.selector.register(handler, selectors.EVENT_READ, guest)

    def reap(self, handler: int, guest: Guest) -> None:
        """Collect a handler that has ended."""
        os.waitid(os.P_PIDFD, handler, os.WEXITED)
        self.selector.unregister(handler)
        guest.handlers.discard(handler)
        os.close(handler)


def load_modules(names: list[str]) -> list[str]:
    """Import what can be imported; returns the others."""
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    return missing


def try_entering(namespace: int) -> str:
    """Why the kernel does not let this process into a sandbox's namespaces; '' when it does."""
    pid = os.fork()
    if pid == 0:
        os._exit(LIBC.setns(namespace, NAMESPACES) and ctypes.get_errno())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"setns: {os.strerror(code)}" if code else ""


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
    """The request of a shim, which is untrusted. Raises ValueError or OSError when it is none."""
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
    while program not in dict(poll.poll()):
        try:
            number = connection.recv(1)
        except OSError:
            number = b""
        if not number:
            poll.unregister(connection)
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(program, number[0] if number else signal.SIGKILL)
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
        filter_calls(guest.filter)
        # Without it a program cannot read its own /proc entries.
        LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        code = program.run(request.executable, request.args)
    finally:
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code & 255)


def drop_rights() -> None:
    """Entering a user namespace gives all capabilities in it: the program gets none, for good."""
    # Until the filter is on, nobody in the sandbox may look into this process.
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    for capability in range(64):
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if LIBC.capset(header, (ctypes.c_uint32 * 6)()) or LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        os._exit(126)


def filter_calls(steps: bytes) -> None:
    """The sandbox's filter (seccomp.py), which nothing can take off again; b"" where a sandbox has none."""
    if not steps:
        return
    kept = ctypes.create_string_buffer(steps, len(steps))
    program_of = struct.pack("HP", len(steps) // 8, ctypes.addressof(kept))
    if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program_of, 0, 0):
        os._exit(126)


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
    """Set a soft and a hard limit of this process (`resource.RLIMIT_*`), never above the hard one that it has."""
    hard = resource.getrlimit(which)[1]
    # A process gets a second between the signal that tells it about its CPU time and its end.
    wanted = (limit, limit + 1 if which == resource.RLIMIT_CPU else limit)
    resource.setrlimit(which, wanted if hard == resource.RLIM_INFINITY else (min(limit, hard), min(wanted[1], hard)))


def main() -> None:
    """Load the modules that are named, and serve the control socket whose number is given."""
    control = socket.socket(fileno=int(sys.argv[1]))
    modules = json.loads(sys.argv[2])
    # Nothing is read from there any more, and a program's path does not begin with it.
    shutil.rmtree(sys.path.pop(0))
    # A module of this name in a workspace is another one.
    del sys.modules["program"]
    missing = load_modules(modules)
    gc.collect()
    gc.freeze()
    Server(control, missing).serve()


if __name__ == "__main__":
    main()
