"""What the kernel keeps for a session beside its files and memory, and the names and numbers by which it is asked."""

from .kit import Attack

KEPT = r"\(stopped: the action (used more than 300 MiB of memory|wrote more than 30 MiB to disk); all its"
MANY_FILES = 'python -c "import time\nfor i in range(40000): open(f\'{}/many{{i}}\', \'w\').close()\ntime.sleep(600)"'
# 25,000 queues of two messages of 8 KiB: 400 MB.
MESSAGES = """python -c "import ctypes, time
libc = ctypes.CDLL(None)
text = ctypes.create_string_buffer(b'x' * 8, 8200)
for i in range(25000):
    queue = libc.msgget(0, 0o1600)
    for _ in range(2): libc.msgsnd(queue, text, 8192, 0o4000)
time.sleep(600)\""""
# A program is called after its file; a form feed ends a line for some readers of /proc/PID/status.
NAMED = "n=$(printf '/tmp/\\fRssAnon: {}'); cp /bin/sleep \"$n\"; "
CALL_32 = """python -c "import ctypes, mmap, platform
if platform.machine() == 'x86_64':
    # mov eax, 20 (getpid); int 0x80; ret
    code = mmap.mmap(-1, 4096, prot=7); code.write(bytes.fromhex('b814000000cd80c3'))
    print('getpid:', ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())
else: print('getpid: -1')\""""
CONNECT = ("import socket; s = socket.socket(socket.AF_INET, {}); s.settimeout(2); "
           "s.connect(('@ADDRESS@', @TCP@)); print('through')")


def use_up(name: str, seen: str, *actions: str) -> Attack:
    """An attack on a limit from a side that it may not see, in a small sandbox."""
    return Attack(name, "resources", actions, seen, "small")


ATTACKS = [
    use_up("empty files in memory", KEPT, MANY_FILES.format("/tmp"), "rm -rf /tmp/many*"),
    use_up("messages of System V", KEPT, MESSAGES, "ipcrm -a"),
    use_up("memory hidden behind a program's name", KEPT, NAMED.format("-9999") +
           "for i in $(seq 20); do \"$n\" 600 & done; for i in 1 2; do python -c "
           "\"import time; x = b'x' * (180 << 20); "
           "time.sleep(600)\" & done; sleep 600; echo undetected", "kill $(jobs -p); rm -f /tmp/*Rss*"),
    use_up("a stop that is hidden behind an escape", "stopped: the action used more than 40 processes",
           "printf '\\033]0;'; for i in $(seq 60); do sleep 600 & done; sleep 600"),
    Attack("a program's name that is no number", "guest", (
        "x=kept; " + NAMED.format("x") + "\"$n\" 600 &", "echo $x; kill %1; rm -f /tmp/*Rss*"), "^kept$"),
    Attack("an end that is hidden behind an escape", "display", ("printf '\\033]0;'; builtin kill -9 $$",),
           "the shell ended with exit code -9"),
    Attack("an escape that hides the next lines", "display", ("printf 'a\\033]0;\\nshown\\n\\007b\\n'",), "^shown$"),
    Attack("the guest's own files by the editor", "guest", (
        "open /proc/self/fd/2\nopen /proc/self/mem\nopen /proc/self/environ",), "not a regular file|error|No such"),
    Attack("calls of 32-bit programs", "host", (CALL_32,), "^getpid: -1$"),
    Attack("a device that anybody may make (0:0)", "submission", (
        "rm -rf submission.csv; mknod submission.csv c 0 0; ls -l", "validate", "rm -f submission.csv"),
        "submission.csv is not a regular file|submission.csv is missing"),
    *[Attack(f"{name} to the host's address", "network", (f'python -c "{CONNECT.format(kind)}"',),
             "not supported|unreachable|refused|not permitted|not available")
      for name, kind in (("SCTP", "socket.SOCK_STREAM, 132"), ("MPTCP", "socket.SOCK_STREAM, 262"),
                         ("UDP-Lite", "socket.SOCK_DGRAM, 136"), ("DCCP", "6, 33"))],
]
