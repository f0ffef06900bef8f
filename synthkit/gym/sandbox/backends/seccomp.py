"""The system calls that a sandbox may not make, as a classic BPF filter for bubblewrap and for warm Python runs.

Namespaces leave gaps: a socket of the family AF_VSOCK reaches a virtual machine's host from any network namespace, and
much of the kernel that a program hardly needs has been the way out before. A denied call fails with an error and is
an observation like any other; nothing is killed. The kernel remembers which calls always pass, so they cost nothing.
Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux 6.18.
"""

import platform
import struct

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
X32 = 0x40000000
NEW_NAMESPACE = 0x7E020080  # CLONE_NEW*, time namespaces too
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
TERMINAL_INPUT = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C}
HOLDING = {"F_SETLEASE": 1024, "F_NOTIFY": 1026}
PERSONALITIES = (0, 0xFFFFFFFF)  # as it is, and the question which one it is

# Numbers on x86_64 and aarch64; None where there is no such call.
Numbers = tuple[int | None, int | None]
DENIED: dict[str, dict[str, Numbers]] = {
    "mounts, beyond what namespaces forbid already": {
        "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "fsopen": (430, 430),
        "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "open_tree": (428, 428),
        "move_mount": (429, 429), "mount_setattr": (442, 442), "open_tree_attr": (467, 467)},
    "namespaces within the sandbox": {"unshare": (272, 97), "setns": (308, 268)},
    "a look into other processes": {
        "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
        "pidfd_getfd": (438, 438)},
    "files by number instead of by path": {"open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264)},
    "keyrings, which are not part of any namespace": {
        "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    "parts of the kernel that have been the way out before": {
        "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
        "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "fanotify_init": (300, 262),
        "lookup_dcookie": (212, 18), "vhangup": (153, 58), "memfd_secret": (447, 447), "modify_ldt": (154, None)},
    "the machine's own matters": {
        "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
        "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
        "acct": (163, 89), "syslog": (103, 116), "quotactl": (179, 60), "quotactl_fd": (443, 443),
        "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
        "iopl": (172, None), "ioperm": (173, None), "sethostname": (170, 161), "setdomainname": (171, 162)},
}
CHECKED: dict[str, Numbers] = {
    "clone": (56, 220), "clone3": (435, 435), "socket": (41, 198), "socketpair": (53, 199), "ioctl": (16, 29),
    "personality": (135, 92), "fcntl": (72, 25),
}
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

Code = list[tuple[int, int, int, int]]


def build_filter(machine: str = "") -> bytes:
    """The filter for a machine (this one by default) as an array of struct sock_filter; b"" for an unknown one."""
    machine = machine or platform.machine()
    if machine not in MACHINES:
        return b""
    column, architecture = MACHINES[machine]
    checked = {name: numbers[column] for name, numbers in CHECKED.items()}
    code: Code = [load(ARCHITECTURE), (IF_EQUAL, 1, 0, architecture), refuse(EPERM), load(NUMBER)]
    # The x32 calls of x86_64 are the same ones under other numbers.
    code += [(IF_AT_LEAST, 0, 1, X32), refuse(ENOSYS)]
    for calls in DENIED.values():
        for number in (numbers[column] for numbers in calls.values()):
            code += [] if number is None else when(number, [refuse(EPERM)])
    # Its flags lie in memory, which a filter cannot see; without it the C library takes clone.
    code += when(checked["clone3"], [refuse(ENOSYS)])
    code += when(checked["clone"], [load_argument(0), (IF_ANY_BIT, 0, 1, NEW_NAMESPACE), refuse(EPERM), allow()])
    for name in ("socket", "socketpair"):
        code += when(checked[name], only(0, tuple(FAMILIES.values()), EAFNOSUPPORT))
    code += when(checked["personality"], only(0, PERSONALITIES, EPERM))
    for name, commands in (("ioctl", TERMINAL_INPUT), ("fcntl", HOLDING)):
        code += when(checked[name], [load_argument(1), *(step for number in commands.values()
                                                         for step in when(number, [refuse(EPERM)])), allow()])
    return b"".join(struct.pack("=HBBI", *step) for step in [*code, allow()])


def load(offset: int) -> tuple[int, int, int, int]:
    """A step that loads the 32 bits at a byte offset of struct seccomp_data."""
    return LOAD, 0, 0, offset


def load_argument(at: int) -> tuple[int, int, int, int]:
    """The lower half of an argument: both machines are little-endian, and the kernel too looks at no more of these."""
    return load(ARGUMENTS + 8 * at)


def allow() -> tuple[int, int, int, int]:
    """A step that lets the call pass."""
    return RETURN, 0, 0, ALLOW


def refuse(error: int) -> tuple[int, int, int, int]:
    """A step that makes the call fail with an error number."""
    return RETURN, 0, 0, ERRNO | error


def when(value: int | None, then: Code) -> Code:
    """Steps for one value of what was loaded last; they end in a return."""
    return [(IF_EQUAL, 0, len(then), value or 0), *then]


def only(argument: int, allowed: tuple[int, ...], error: int) -> Code:
    """Pass when an argument is one of the allowed values, else fail."""
    return [load_argument(argument), *(step for value in allowed for step in when(value, [allow()])), refuse(error)]
