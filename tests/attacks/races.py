"""What is changed between two looks at it: while a workspace is copied or an episode forked, and before a program is
confined; and making the host wait for a file."""

from .kit import FORK, HONEST, Attack

SCORE = r'Your score: \{"accuracy": 0\.\d+\}'
# Should the kit be held up at a pipe, the job lets it go after minutes, when only a hang is not over, and says so.
SWAP = """import ctypes, glob, os, time
libc = ctypes.CDLL(None)
os.mkdir('swap')
for i in range({count}):
    {make}
print('ready', flush=True)
end = time.monotonic() + 240
while time.monotonic() < end:
    for i in range({count}):
        libc.renameat2(-100, b'swap/a%d' % i, -100, b'swap/b%d' % i, 2)
open('late', 'w').close()
pipes = [os.open(path, os.O_RDWR) for path in glob.glob('swap/*') if not os.path.isdir(path)]
time.sleep(600)
"""
FOLDER = "os.mkdir(f'swap/a{i}'); open(f'swap/a{i}/hit', 'w').write('x')"
TIDY = "kill %%; wait; rm -rf swap swap.py ready"
CONFINED = """import os, signal, subprocess
old = set(os.listdir('/proc'))
child = subprocess.Popen('for i in $(seq 15); do python -c 1; done', shell=True)
found = 0
while child.poll() is None:
    for name in filter(str.isdigit, set(os.listdir('/proc')) - old):
        try:
            os.kill(int(name), signal.SIGSTOP)
            memory = open(f'/proc/{name}/mem', 'rb')
            if 'Seccomp:\\t0' in open(f'/proc/{name}/status').read(): found += 1
            else: old.add(name)
        except OSError:
            pass
        try: os.kill(int(name), signal.SIGCONT)
        except OSError: pass
print('without a filter:', found)
"""


def swap(make: str, count: int) -> str:
    """A job in the background that exchanges each swap/aN with swap/bN, as fast as it can, in one step of the kernel's.
    """
    program = SWAP.format(make=make, count=count)
    return (f"cat > swap.py <<'END'\n{program}END\npython swap.py > ready 2>&1 &\n"
            "while ! grep -q . ready; do sleep 0.01; done; cat ready")


def lease(path: str, then: str = "") -> str:
    """Whoever opens a leased file waits until its holder gives way, 45 seconds as a rule."""
    return (f"python -c \"import fcntl, glob, os, time\nfd = os.open(glob.glob('{path}')[0], os.O_RDONLY)\n"
            f"fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK); print('leased', flush=True)\n{then}\"")


ATTACKS = [
    Attack("folders that turn into links while the episode is forked", "fork", (
        swap(f"{FOLDER}; os.symlink('@RUN@', f'swap/b{{i}}')", 200), FORK, FORK, TIDY), "^(not )?forked: "),
    Attack("folders that turn into files while they are copied", "code", (
        swap(f"{FOLDER}; open(f'swap/b{{i}}', 'w').close()", 200), "validate", "validate", TIDY), SCORE, "code", True),
    Attack("folders that turn into pipes while they are copied", "code", (
        swap(f"{FOLDER}; os.mkfifo(f'swap/b{{i}}')", 200), "validate", "validate",
        f"ls late || echo in time; {TIDY} late"), "^in time$", "code", True),
    Attack("files that turn into others while they are copied", "code", (
        swap("[open(f'swap/{name}{i}', 'w').close() for name in 'ab']", 500), "validate", "validate", TIDY),
        SCORE, "code", True),
    Attack("a program's memory before it is confined", "warm", (
        f"cat > /tmp/c.py <<'END'\n{CONFINED}END\npython /tmp/c.py",), "^without a filter: 0$"),
    Attack("a library's file held by a lease", "leases", (
        lease("/opt/python/lib/python3.*/site-packages/*/__init__.py"),), "not permitted"),
    Attack("a system's file held by a lease", "leases", (lease("/usr/bin/tac"),), "not permitted"),
    Attack("the submission held by a lease", "leases", (
        f"{HONEST} > submission.csv; " + lease("submission.csv", "time.sleep(600)") + " > held 2>&1 &\n"
        "while ! grep -q . held; do sleep 0.01; done", "validate", "kill %%; wait; rm held"),
        f"{SCORE}|is not a regular file", scored=True),
]
