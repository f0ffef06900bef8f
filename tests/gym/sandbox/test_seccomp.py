"""System calls that a sandbox may not make fail with an error, for warm and cold Python alike; the others work."""

import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthkit.core.params import SandboxParams
from synthkit.gym.sandbox import Sandbox, open_sandbox
from synthkit.gym.sandbox.backends.seccomp import CHECKED, DENIED, MACHINES, build_filter

pytestmark = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}
CALL = """
import ctypes, errno, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    ctypes.set_errno(0)
    libc.syscall(*map(ctypes.c_long, arguments))
    return errno.errorcode.get(ctypes.get_errno(), "passed")
"""
# The entry for 32-bit programs, taken from within a 64-bit one: machine code in memory, getpid's number there.
OLD_ENTRY = """
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("53b814000000cd805bc3"))
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())
"""
ALLOW, REFUSED = 0x7FFF0000, 0x00050000
EPERM, ENOSYS, EAFNOSUPPORT = REFUSED | 1, REFUSED | 38, REFUSED | 97


@pytest.fixture(scope="module", params=[True, False], ids=["warm", "cold"])
def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "call.py").write_text(CALL)
    with open_sandbox(folder, SandboxParams(warm=request.param, warm_modules=["json"])) as sandbox:
        yield sandbox


def run(sandbox: Sandbox, code: str) -> str:
    return sandbox.run(f"cat > t.py <<'END'\n{code}\nEND\npython t.py", 60).output.strip()


def column() -> int:
    import platform

    return MACHINES[platform.machine()][0]


@pytest.mark.parametrize("why", DENIED)
def test_a_denied_call_fails_as_not_permitted(sandbox: Sandbox, why: str) -> None:
    # Wrong arguments would fail another way, and bare ones do nothing where the filter is not there.
    numbers = [numbers[column()] for numbers in DENIED[why].values() if numbers[column()] is not None]
    assert run(sandbox, f"from call import call\nprint({{call(n, -1, 0, -1, 0, 0) for n in {numbers}}})") == "{'EPERM'}"


@pytest.mark.parametrize(("code", "expected"), [
    ("import socket; socket.socket(40, socket.SOCK_STREAM)", "OSError: [Errno 97]"),
    ("import socket; socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)", "OSError: [Errno 97]"),
    ("import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "OSError: [Errno 97]"),
    ("from call import *; print(call(CLONE3, 0, 0))", "ENOSYS"),
    ("from call import *; print(call(CLONE, 0x10000000 | 17, 0, 0, 0, 0))", "EPERM"),
    ("from call import *; print(call(CLONE, 0x40000000 | 17, 0, 0, 0, 0))", "EPERM"),
    ("from call import *; print(call(PERSONALITY, 0x0040000))", "EPERM"),
    ("from call import *; print(call(PERSONALITY, 0xFFFFFFFF))", "passed"),
    ("import fcntl; fcntl.ioctl(0, 0x5412, b'x')", "PermissionError"),
])
def test_arguments_are_looked_at(sandbox: Sandbox, code: str, expected: str) -> None:
    for name in ("CLONE3", "CLONE", "PERSONALITY"):
        code = re.sub(rf"\b{name}\b", str(CHECKED[name.lower()][column()]), code)
    assert expected in run(sandbox, code).splitlines()[-1]


@pytest.mark.skipif(column() != 0, reason="the other numbers of x86_64")
def test_the_calls_of_x32_are_not_there(sandbox: Sandbox) -> None:
    assert run(sandbox, "from call import call\nprint(call(0x40000000 + 39))") == "ENOSYS"


@pytest.mark.skipif(column() != 0, reason="the other entry of x86_64")
def test_the_entry_for_32_bit_programs_is_refused(sandbox: Sandbox) -> None:
    if subprocess.run([sys.executable, "-c", OLD_ENTRY], capture_output=True).returncode:
        pytest.skip("this kernel has no such entry")
    assert run(sandbox, OLD_ENTRY) == "-1"


@pytest.mark.parametrize("code", [
    "import socket; a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))",
    "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()); print('x')",
    "import socket; print(socket.if_nameindex()[0][1])",
    "import threading; t = threading.Thread(target=print, args=('x',)); t.start(); t.join()",
    "import subprocess; print(subprocess.run(['echo', 'x'], capture_output=True, text=True).stdout)",
    "import multiprocessing as m\nif __name__ == '__main__':\n    with m.Pool(2) as p: print(p.map(abs, [-1, 2]))",
    "import sqlite3; print(sqlite3.connect('x.db').execute('select 1').fetchall())",
    "from joblib import Parallel, delayed\nif __name__ == '__main__':\n"
    "    print(Parallel(2)(delayed(abs)(x) for x in (-1, 2)))",
])
def test_what_programs_need_still_works(sandbox: Sandbox, code: str) -> None:
    output = run(sandbox, code)
    assert output and "Error" not in output, output


def decide(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel would return for a call: the filter step by step, so that other machines' are tested too."""
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, architecture or MACHINES[machine][1], 0, *values)
    steps = list(struct.iter_unpack("=HBBI", build_filter(machine)))
    at = loaded = 0
    while True:
        code, then, otherwise, value = steps[at]
        if code == 0x06:
            return value
        if code == 0x20:
            loaded, jump = struct.unpack_from("=I", data, value)[0], 0
        else:
            holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: loaded & value != 0}[code]
            jump = then if holds else otherwise
        at += 1 + jump


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_is_decided_as_the_tables_say(machine: str) -> None:
    at = MACHINES[machine][0]
    denied = {numbers[at] for calls in DENIED.values() for numbers in calls.values()} - {None}
    looked_at = {numbers[at] for numbers in CHECKED.values()}
    for number in range(600):
        if number not in looked_at:
            assert decide(machine, number, 1 << 40) == (EPERM if number in denied else ALLOW), number
        assert decide(machine, number | 0x40000000) == ENOSYS
        # A 32-bit program's architecture: i386, ARM.
        assert decide(machine, number, architecture={"x86_64": 0x40000003, "aarch64": 0x40000028}[machine]) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_every_argument_is_decided_as_the_tables_say(machine: str) -> None:
    call = {name: numbers[MACHINES[machine][0]] for name, numbers in CHECKED.items()}
    for family in range(64):
        # socket.h: unix, inet, inet6, netlink.
        expected = ALLOW if family in (1, 2, 10, 16) else EAFNOSUPPORT
        # The kernel looks at the lower half of an argument only.
        assert {decide(machine, call[name], family | 1 << 32) for name in ("socket", "socketpair")} == {expected}
    for bit in range(8, 32):
        # sched.h: mount, cgroup, UTS, IPC, user, PID, network.
        expected = EPERM if bit in (17, 25, 26, 27, 28, 29, 30) else ALLOW
        assert decide(machine, call["clone"], 1 << bit | 17) == expected, bit
    assert decide(machine, call["clone3"]) == ENOSYS
    assert [decide(machine, call["personality"], value) for value in (0, 0xFFFFFFFF, 0x40000)] == [ALLOW, ALLOW, EPERM]
    assert [decide(machine, call["ioctl"], 0, value) for value in (0x5412, 0x541C, 0x5401, 0x1_0000_5412)] == [
        EPERM, EPERM, ALLOW, EPERM]


@pytest.mark.parametrize("machine", [name for name, path in HEADERS.items() if Path(path).is_file()])
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    found = dict(re.findall(r"#define\s+__NR(?:3264)?_(\w+)\s+(\d+)", Path(HEADERS[machine]).read_text()))
    for calls in (*DENIED.values(), CHECKED):
        for name, numbers in calls.items():
            number = numbers[MACHINES[machine][0]]
            # A header may be older than a call.
            assert number is None or name not in found or int(found[name]) == number, name


def test_an_unknown_machine_has_no_filter() -> None:
    assert build_filter("riscv64") == b"" and len(build_filter()) % 8 == 0
