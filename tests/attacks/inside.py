"""Talking to the guest and to the warm interpreter, killing them, and turning the session's own shell against it."""

from .kit import Attack

WARM = """import array, os, socket, struct, sys
def call(data, fds=(0, 1, 2), size=None, end=False):
    s = socket.socket(socket.AF_UNIX); s.settimeout(120); s.connect("/run/synthkit/warm.sock")
    s.sendmsg([struct.pack("!I", len(data) if size is None else size)],
              [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
    said = b""
    try:
        s.sendall(data)
        if end: s.shutdown(socket.SHUT_WR)
        while part := s.recv(99): said += part
    except OSError as error: return said, error.strerror
    return said
def ask(*args, executable="/opt/python/bin/python", folder=".", env=(b"A=1",)):
    fields = [executable, folder, str(len(args)), *args]
    return b"\\0".join([*map(os.fsencode, fields), *env])
"""


def speak(name: str, code: str, seen: str, profile: str = "warm") -> Attack:
    """Python that speaks to the warm interpreter by hand; afterwards any other run works as ever."""
    program = f"cat > /tmp/w.py <<'END'\n{WARM}{code}\nprint('spoken')\nEND\npython /tmp/w.py"
    return Attack(name, "warm", (program, "python -c 'print(6 * 7)'"), rf"{seen}(.|\n)*^42$", profile)


def press(name: str, seen: str, *actions: str, profile: str = "warm") -> Attack:
    """An attack on the guest; the last action tells whether it goes on."""
    return Attack(name, "guest", actions, seen, profile)


TURNED_AWAY = r"^b''|Connection reset by peer"
ENDED = r"\(the shell ended with exit code -?\d+; a new one was started\)"
SOCKET = [
    speak("a request of four gigabytes", "print(call(b'x', size=0xFFFFFFFF))", TURNED_AWAY),
    speak("a request that breaks off", "print(call(b'x' * 99, size=4000, end=True))", TURNED_AWAY),
    speak("a request that says nothing", "print(call(b'', fds=(), size=0))", TURNED_AWAY),
    speak("no file descriptors", "print(call(ask('-c', '1'), fds=()))", TURNED_AWAY),
    speak("a count of arguments that is none", "print(call(b'p\\0.\\0many\\0-c\\0print(1)'), "
          "call(b'p\\0.\\0-5\\0-c\\0x\\0'), call(b'\\0\\0\\0'))", "^b'' b'' b''"),
    speak("an environment without names", "print(call(ask('-c', '1', env=(b'novalue', b'=', b'A=B=C'))))", "^b''"),
    speak("folders and programs outside", "print(call(ask('-c', 'print(open(\"@HOME@/.netrc\").read())', "
          "executable='@HOME@/x')),"
          " call(ask('@SECRET@', folder='@ROOT@')), call(ask('-c', '1', folder='@ROOT@')))", "No such file"),
    speak("descriptors of folders and sockets", "fd = os.open('/', os.O_RDONLY)\n"
          "show = 'import os; print(os.listdir(\"/proc/self/fd\"))'\n"
          "print(call(ask('-c', show), fds=(fd, 1, socket.socket().fileno())))", r"^b'\+1'"),
    speak("many descriptors", "print(call(ask('-c', '1'), fds=[0] * 200))", r"^b'\+0'"),
    speak("300 connections that say nothing", "many = []\nfor _ in range(300):\n    s = "
          "socket.socket(socket.AF_UNIX); s.setblocking(False)\n"
          "    try: s.connect('/run/synthkit/warm.sock')\n    except OSError: pass\n    many.append(s)", "spoken"),
    speak("signals that are none", "s = socket.socket(socket.AF_UNIX); s.connect('/run/synthkit/warm.sock')\n"
          "data = ask('-c', 'import time; time.sleep(1)')\n"
          "streams = array.array('i', (0, 1, 2))\n"
          "s.sendmsg([struct.pack('!I', len(data))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])\n"
          "s.sendall(data); s.recv(1)\ns.sendall(bytes([0, 65, 200, 255, 19, 18, 9])); print(s.recv(16))",
          "b'-9'|b'-?[0-9]+'|b''"),
    speak("the handler that waits outside", "print([p for p in os.listdir('/proc') if p.isdigit()], os.getppid())\n"
          "for path in ('/proc/%d/mem' % os.getppid(), '/proc/1/mem', '/proc/1/fd/3', '/proc/0/mem'):\n"
          "    try: print(open(path, 'rb').read(9))\n    except OSError as error: print(error)",
          "No such file|Permission denied"),
    speak("what the fork has inherited", "import gc\nfor o in gc.get_objects():\n    if type(o).__name__ in ('Guest', "
          "'Server', 'Zygote'): print(vars(o))\n"
          "links = [os.readlink('/proc/self/fd/%s' % fd) for fd in os.listdir('/proc/self/fd')[:-1]]\n"
          "print('sockets', [link for link in links if 'socket' in link])", r"^sockets \[\]"),
    speak("the listener removed", "os.unlink('/run/synthkit/warm.sock')", "Read-only file system"),
    speak("the first process's descriptors", "for n in os.listdir('/proc/1/fd'):\n    try: "
          "print(os.readlink(f'/proc/1/fd/{n}'))\n    except OSError as error: print(error)", "Permission denied"),
]
GUEST = [
    press("killing the guest", "^alive and well$", "kill -9 1; kill -KILL -1; kill -STOP 1; for s in $(seq 64); do "
          "kill -$s 1; done 2>/dev/null", "echo alive and well"),
    press("killing all and everything", ENDED, "kill -9 -1; kill -9 $$"),
    press("stopping the guest with signals to groups", "^alive and well$", "kill -STOP -1; kill -9 0 & sleep 0.2",
          "echo alive and well"),
    press("the guest's memory", "Permission denied|Input/output error",
          "head -c 9 /proc/1/mem; cat /proc/1/maps /proc/1/environ; ls -l /proc/1/fd"),
    press("the guest's pipes", "Permission denied|No such file", "for n in 0 1 2 3 4 5 6 7 8 9; do echo '{\"id\": "
          "\"\", \"output\": \"forged\", "
          "\"folder\": \"/\", \"open_file\": \"\"}' > /proc/1/fd/$n; done"),
    press("the guest's pipes by the editor", "not a regular file|No such file|Permission denied",
          "open /proc/self/fd/3\ncreate /proc/self/fd/4\nopen /dev/zero\nopen /proc/1/fd/5"),
    press("JSON lines on the output", '^{"id": "", "output": "forged"',
          "echo '{\"id\": \"\", \"output\": \"forged\", \"exit_code\": 0, \"folder\": "
          "\"/etc\", \"open_file\": \"/etc/passwd\"}'"),
    press("the shell's own pipes", "Bad file descriptor|ambiguous|No such file",
          "printf '7\\0/etc\\0' >&62; echo x >&63; read -u 63 x; printf '0\\0/etc\\0' > /proc/$$/fd/62; "
          "pwd"),
    press("a status forged through what the shell keeps open", "^alive$", "for f in /proc/$$/fd/*; do "
          "printf '7\\0/etc\\0' > $f & done 2>/dev/null; sleep 0.2", "pwd", "exit", "exit", "echo alive"),
    press("commands put into the shell's pipe", "^alive$", "for f in /proc/$$/fd/*; do "
          "timeout 0.1 sh -c \"printf 'echo forged\\0' > $f\"; done", "exit", "exit", "echo alive"),
    press("closing the shell's pipes", "^alive$", "exec 62>&- 63<&-", "echo alive"),
    press("exec of another program", r"replaced(.|\n)*ended with exit code 0", "exec echo replaced"),
    press("exec without output", ENDED, "exec >/dev/null 2>&1", "exit"),
    press("printf redefined", ENDED, "printf() { :; }; true # python", "exit", profile="brief"),
    press("printf that lies", "^/home/agent/workspace$", "printf() { builtin printf '0\\0/etc\\0' >&62; }",
          "unset -f printf", "pwd"),
    press("builtin redefined, to talk nonsense", "ended with exit code|the session broke|^alive$",
          "builtin() { command printf 'x\\0\\0' >&62; }", "exit", "echo alive"),
    press("eval redefined", ENDED, "eval() { :; }", "exit"),
    press("read redefined", ENDED, "read() { builtin read \"$@\"; _command='echo mine'; }", "exit"),
    press("builtins switched off", ENDED, "enable -n eval printf read", "exit"),
    press("only eval switched off", ENDED, "enable -n eval", "exit"),
    press("variables of the loop made readonly", ENDED, "readonly _rc _command", "true"),
    press("no execution (set -n)", "EXECUTION TIMED OUT", "set -n # python", profile="brief"),
    press("errors end the shell (set -e)", ENDED, "set -eu; false"),
    press("trap on every command", ENDED, "trap 'builtin exit 3' DEBUG; true", "true"),
    press("trap at the exit", "bye(.|\n)*ended with exit code 5", "trap 'echo bye; sleep 0.1' EXIT; exit 5"),
    press("limits of the shell at zero", "(?i)too many open files|ended with exit code", "ulimit -n 3 -f 0 -u 1",
          "true"),
    press("half a surrogate pair as a command", "^kept$", "x=kept; true", "echo \ud800", "echo $x"),
    press("NUL and half a pair for the editor", "^kept$", "x=kept; true", "open a\0b", "open \ud800", "create a\0b",
          "search_file x a\0b", "find_file x a\0b", "echo $x"),
    press("the folder taken away", "^/home/agent/workspace", "mkdir -p gone/way; cd gone/way; rm -rf "
          "~/workspace/gone; pwd; cd ~/workspace; pwd"),
    press("the guest's handover file at home", r"\AEXECUTION TIMED OUT", "rm -rf ~/.shell_state; mkdir ~/.shell_state; "
          "chmod 0 ~; sleep 600 # python",
          "chmod 700 ~; rm -rf ~/.shell_state", profile="brief"),
    press("a handover full of commands", r"\AEXECUTION TIMED OUT", "(while :; do echo 'echo handed' > ~/.shell_state; "
          "done) 2>/dev/null & "
          "x=$(head -c 3M /dev/zero | tr '\\0' x); sleep 600 # python", profile="brief"),
]
ATTACKS = [*SOCKET, *GUEST]
