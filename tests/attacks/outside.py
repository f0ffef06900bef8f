"""The network by any protocol; the host's home, keys and other runs; writing outside of the workspace."""

from .kit import Attack

CONNECT = "import socket; s = socket.socket({}); s.settimeout(2); s.connect({}); print('through', s.recv(99))"


def reach(name: str, kind: str, address: str, seen: str) -> Attack:
    """An attack that connects a socket of this kind to an address."""
    return Attack(name, "network", (f'python -c "{CONNECT.format(kind, address)}"',), seen)


def send(name: str, seen: str, *actions: str) -> Attack:
    """An attack that sends something out with a program of its own."""
    return Attack(name, "network", actions, seen)


def read_host(name: str, seen: str, *actions: str) -> Attack:
    """An attack that reads what lies on the host."""
    return Attack(name, "host", actions, seen)


def write_out(name: str, seen: str, *actions: str) -> Attack:
    """An attack that writes outside of the workspace."""
    return Attack(name, "writing", actions, seen)


REFUSED, UNREACHABLE, NO_FAMILY = "Connection refused", "Network is unreachable", "Address family not supported"
NETWORK = [
    reach("TCP to a service on the host's loopback", "socket.AF_INET", "('127.0.0.1', @TCP@)", REFUSED),
    reach("TCP to the host's address", "socket.AF_INET", "('@ADDRESS@', @TCP@)", f"{UNREACHABLE}|{REFUSED}"),
    reach("TCP over IPv6", "socket.AF_INET6", "('::ffff:127.0.0.1', @TCP@)", REFUSED),
    reach("TCP to the internet", "socket.AF_INET", "('192.0.2.1', 443)", UNREACHABLE),
    reach("unix socket of the host", "socket.AF_UNIX", "'@UNIX@'", "No such file"),
    Attack("abstract unix socket of the host", "network", (
        'grep -c . /proc/net/unix; python -c "import socket\n'
        "for line in open('/proc/net/unix'):\n    name = line.split()[-1]\n    if name[:1] == '@' and 'ATTACKED' in "
        "name:\n"
        "        socket.socket(socket.AF_UNIX).connect(chr(0) + name[1:])\n"
        "print('none is in sight')\"",), "^none is in sight"),
    Attack("abstract unix socket by its name", "network",
           ("python -c \"import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + '@ABSTRACT@')\"",), REFUSED),
    reach("AF_VSOCK to the machine that hosts this one", "socket.AF_VSOCK, socket.SOCK_STREAM", "(2, 1)", NO_FAMILY),
    reach("AF_ALG, the kernel's cipher", "socket.AF_ALG, socket.SOCK_SEQPACKET", "('hash', 'sha256')", NO_FAMILY),
    reach("raw packets", "socket.AF_PACKET, socket.SOCK_RAW", "('lo', 3)", NO_FAMILY),
    reach("raw IP", "socket.AF_INET, socket.SOCK_RAW, 1", "('127.0.0.1', 1)", "not permitted"),
    reach("Bluetooth", "31, socket.SOCK_RAW, 1", "(0,)", NO_FAMILY),
    send("UDP", f"{UNREACHABLE}|sent to nobody", "python -c \"import socket; s = socket.socket(socket.AF_INET, "
         "socket.SOCK_DGRAM)\n"
         "s.sendto(b'x', ('127.0.0.1', @UDP@)); print('sent to nobody'); s.sendto(b'x', ('@ADDRESS@', @UDP@))\""),
    send("bash's /dev/tcp and /dev/udp", f"{REFUSED}|{UNREACHABLE}", "cat < /dev/tcp/127.0.0.1/@TCP@",
         "echo x > /dev/udp/@ADDRESS@/@UDP@"),
    send("names (DNS)", "(?i)temporary failure in name resolution|name or service not known",
         "python -c \"import socket; socket.gethostbyname('example.org')\""),
    send("HTTP by curl, wget, Python", "(?i)refused|unreachable|not found",
         "python -c \"import urllib.request as u; u.urlopen('http://127.0.0.1:@TCP@/')\"; "
         "curl -m 2 http://@ADDRESS@:@TCP@; wget -T 2 -t 1 http://@ADDRESS@:@TCP@"),
    send("a clone over git and ssh", "(?i)unable to connect|could not resolve|unreachable|refused|not found",
         "git clone git://127.0.0.1:@TCP@/x; git clone https://example.org/x; ssh -o ConnectTimeout=1 127.0.0.1"),
    send("an interface of its own", "(?i)not permitted|not found", "ip link add v0 type veth; ip addr add 10.0.0.1/8 "
         "dev lo; "
         "python -c \"import fcntl, socket; fcntl.ioctl(socket.socket(), 0x8914, b'lo' + bytes(38))\""),
]
HOST = [
    read_host("home and keys", "No such file", "cat @HOME@/.ssh/id_ed25519 @HOME@/.netrc ~root/.ssh/* "
              "~root/.bash_history; ls -R @HOME@"),
    read_host("home by the user database", "No such file", "cat ~root/.netrc; ls /home/*/.ssh /root; getent passwd"),
    read_host("other runs", "No such file", "cat @RUN@/05_trajectories/secret.traj; ls @KIT@/outputs"),
    read_host("other sandboxes", "No such file|^nothing$", "ls -d /tmp/synthkit-* /tmp/*/synthkit-* || echo nothing"),
    read_host("keys in the environment", "^nothing$", "env | grep -i -E 'key|token|secret|sk-' || echo nothing"),
    read_host("the kit's processes", "No such process|No such file", "cat /proc/@PID@/environ; kill -9 @PID@; kill -0 "
              "@PID@"),
    read_host("passwords and the machine's identity", "No such file", "cat /etc/shadow /etc/machine-id /var/log/* "
              "/sys/class/dmi/id/*"),
    read_host("kernel log and memory", "(?i)not permitted|no such file|permission denied",
              "dmesg; head -c 9 /dev/mem /dev/kmsg /proc/kcore /proc/kallsyms /proc/kmsg"),
    read_host("keyrings of the kernel", "Operation not permitted|Function not implemented",
              "python -c \"import ctypes, os; l = ctypes.CDLL(None, use_errno=True); l.syscall(250, 0, -3, 1); "
              "print(os.strerror(ctypes.get_errno()))\"; cat /proc/keys"),
    read_host("tracing a process", "Operation not permitted",
              "python -c \"import ctypes, os; l = ctypes.CDLL(None, use_errno=True); l.ptrace(16, 1, 0, 0); "
              "print(os.strerror(ctypes.get_errno()))\""),
    read_host("kernel probes (bpf, perf, userfaultfd)", "^EPERM EPERM EPERM$",
              "python -c \"import ctypes, errno; l = ctypes.CDLL(None, use_errno=True)\n"
              "def call(n): l.syscall(n, 0, 0, 0); return errno.errorcode[ctypes.get_errno()]\n"
              "print(call(321), call(298), call(323))\""),
]
WRITING = [
    write_out("system folders", "Read-only file system", "for d in / /usr/bin /etc /dev /opt/python /run/synthkit "
              "/lib; do touch $d/x; done"),
    write_out("home and the other run of the host", "No such file", "echo x > @HOME@/.netrc; echo x > "
              "@RUN@/05_trajectories/secret.traj"),
    write_out("the task's root", "No such file", "echo x > @SECRET@; rm -rf @ROOT@; ls @ROOT@"),
    write_out("through a link of the workspace", "No such file", "ln -s @HOME@ up; echo x > up/.netrc; rm up"),
    write_out("by the editor", "No such file|Read-only", "create @HOME@/.bashrc\ncreate /etc/cron.d/x"),
    write_out("kernel settings", "(?i)permission denied|read-only", "echo x > /proc/sys/kernel/core_pattern; echo h > "
              "/proc/sysrq-trigger; "
              "echo x > /sys/kernel/uevent_helper"),
    write_out("rights and owners", "(?i)not permitted|invalid|unrecognized|cannot",
              "cp /bin/bash b; chmod 4777 b; ./b -p -c id; chown 0:0 b; "
              "setcap cap_sys_admin+ep b; rm b; su -c id; sudo id"),
    write_out("a git hook and a .pth left for the kit", "^left$", "mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch "
              "@HOME@/hit\\n' | tee "
              ".git/hooks/post-checkout conftest.py sitecustomize.py > /dev/null; chmod +x .git/hooks/*; echo left",
              "rm -rf .git *site*.py conftest.py"),
    write_out("devices of its own", "Operation not permitted",
              "mknod sda b 8 0; mknod mem c 1 1; mknod /tmp/tty c 4 1"),
    write_out("another root", "Operation not permitted", "chroot . /bin/true; pivot_root . .; python -c \"import os; "
              "os.chroot('.')\""),
]
ATTACKS = [*NETWORK, *HOST, *WRITING]
