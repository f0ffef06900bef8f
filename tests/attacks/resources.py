"""Using up what there is, and outliving the end. Every bomb is bounded by itself, should no limit hold, but none ends
before a slow machine has noticed it."""

from .kit import Attack

SLEEPER = "import os, time\nfor _ in range({}):\n    if not os.fork():\n        time.sleep(600)\n        os._exit(0)\n"
TIMED_OUT = r"EXECUTION TIMED OUT BECAUSE THE COMMAND WAS RUNNING FOR MORE THAN \d+ SECONDS"
PROCESSES = r"\(stopped: the action used more than 40 processes at one time; all its processes were ended\)"
MEMORY = r"\(stopped: the action used more than 300 MiB of memory; all its processes were ended\)"
DISK = r"\(stopped: the action wrote more than 30 MiB to disk; all its processes were ended\)"
CPU = r"\(stopped: the action used more than 5 s of processor time; all its processes were ended\)"
FILL = ('python -c "import time\nfor i in range({}): open(str(i) + \'.big\', \'wb\').write(bytes(25 << 20))\n'
        'time.sleep(600)"')
ALONE = "[ $(pgrep -c sleep) = 0 ] && echo nobody is left"


def use_up(name: str, seen: str, *actions: str, profile: str = "small") -> Attack:
    """An attack that uses up one resource of a small sandbox."""
    return Attack(name, "resources", actions, seen, profile)


def outlive(name: str, seen: str, *actions: str) -> Attack:
    """An attack that leaves processes behind, past a timeout or the end of the action."""
    # An action that names Python has its own, shorter time there; only what is to be timed out is played there.
    return Attack(name, "outliving", actions, seen, "brief" if seen is TIMED_OUT else "small")


BOMBS = [
    use_up("fork bomb", PROCESSES, f'python -c "{SLEEPER.format(600)}time.sleep(600)"'),
    use_up("fork bomb of bash", PROCESSES, "b() { [ $1 -gt 8 ] || { b $(($1 + 1)) & b $(($1 + 1)) & sleep 600; }; }; b "
           "0"),
    use_up("threads", f"{PROCESSES}|can't start new thread", 'python -c "import threading, time\nfor _ in range(300): '
           'threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\ntime.sleep(600)"'),
    use_up("orphans", PROCESSES, "for i in $(seq 100); do (setsid sleep 600 &) ; done; sleep 600"),
    use_up("memory of one process", "MemoryError|stopped: the action used more than 300 MiB",
           'python -c "x = bytearray(600 << 20)"'),
    use_up("memory in sum", MEMORY, 'for i in 1 2 3 4 5 6; do python -c "import time; x = b\'x\' * (150 << 20); '
           'time.sleep(600)" & done; wait'),
    use_up("memory as files", f"{DISK}|No space left|File too large", "for i in 1 2 3 4; do head -c 50M /dev/zero > "
           "/dev/shm/$i; done; sleep 600", "rm -f /dev/shm/*"),
    use_up("memory without a name (memfd)", f"{MEMORY}|{DISK}", 'python -c "import os, time\nfor i in range(10): '
           'os.posix_fallocate(os.memfd_create(str(i)), 0, 60 << 20)\ntime.sleep(600)"'),
    use_up("disk filled by one file", "File size limit exceeded|File too large|stopped: the action wrote",
           "head -c 200M /dev/zero > big; rm -f big"),
    use_up("disk filled by many files", DISK, FILL.format(4), "rm -f *.big; echo room"),
    use_up("disk filled again after it was freed", rf"{DISK}(.|\n)*{DISK}", FILL.format(4), "rm -f *.big",
           FILL.format(3), "rm -f *.big"),
    use_up("disk filled by empty files", DISK, 'mkdir -p many; python -c "import time\nfor i in range(9000): '
           'open(f\'many/{i}\', \'w\').close()\n'
           'time.sleep(600)"', "rm -rf many"),
    use_up("processor time", CPU, "for i in 1 2 3 4 5 6; do (while :; do :; done) & done; wait",
           profile="busy"),
    use_up("open files", "Too many open files", 'python -c "x = [open(\'/dev/null\') for _ in range(5000)]"'),
    use_up("output flood", r"\[\.\.\. \d+ (bytes of output|characters) left out \.\.\.\]",
           "head -c 40M /dev/zero | tr '\\0' x"),
    use_up("one endless line and a full pipe", r"left out", "yes | tr -d '\\n' | head -c 20M"),
    use_up("huge core dump", "Aborted|core|dumped|^0$", "ulimit -c; python -c 'import os; os.abort()'; ls core* "
           "2>/dev/null"),
    use_up("deep folders and long names", "^deep$", 'python -c "import os\nfor _ in range(200):\n    os.mkdir(\'d\' * '
           '200); os.chdir(\'d\' * 200)\n'
           'print(\'deep\')"', "rm -rf ddd*"),
]
OUTLIVING = [
    outlive("endless sleep", TIMED_OUT, "sleep 600 # python", ALONE),
    outlive("ignoring SIGTERM and the rest", TIMED_OUT, "python -c \"import signal, time\nfor s in range(1, 65):\n    "
            "try: signal.signal(s, signal.SIG_IGN)\n"
            "    except (OSError, ValueError): pass\nprint('deaf', flush=True)\nwhile True: time.sleep(9)\""),
    outlive("a stopped shell", TIMED_OUT, "kill -STOP $$ # python"),
    outlive("waiting for a pipe", TIMED_OUT, "mkfifo p; cat p # python", "rm p"),
    outlive("a daemon past a timeout", TIMED_OUT,
            "setsid nohup sleep 611 >/dev/null 2>&1 & disown; sleep 612 # python", ALONE),
    outlive("daemons that fork twice, past the end", "^gone into the background$",
            "python -c \"import os, signal, time\nif not os.fork():\n    os.setsid()\n    "
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "    if not os.fork():\n        os.closerange(0, 99); time.sleep(600)\n    os._exit(0)\n\"; setsid nohup "
            "sleep 613 >/dev/null 2>&1 & "
            "echo gone into the background"),
    outlive("holding the output open", "^held$", "(sleep 614; echo late) & disown; echo held"),
    outlive("folders deeper than any path, left for the end", "^left behind$", "perl -e 'for (1..1500) { mkdir \"d\"; "
            "chdir \"d\" }'; echo left behind"),
    outlive("at, cron, systemd", "(?i)not found|no such file", "echo 'touch @HOME@/hit' | at now; crontab -l; "
            "systemd-run true; ls /etc/cron.d"),
    outlive("asking for another priority", "(?i)permission denied|not permitted|nobody",
            "nice -n -20 true; renice -n -20 -p $$; chrt -f 99 true"),
]
ATTACKS = [*BOMBS, *OUTLIVING]
