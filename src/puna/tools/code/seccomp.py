"""A seccomp filter: which system calls code may make, as a small BPF program written by hand.

It knows no sandbox: bubblewrap loads the program through a file descriptor, a process about to be
confined by Landlock loads it itself. A list of what is refused, not of what is allowed, because
CPython and its packages use far too many calls to name; what is newer than the list is refused as
well. Numbers are those of Linux's unistd.h, for the two processors whose numbers are written here.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

REFUSE = 0x00050000 | errno.EPERM
UNKNOWN = 0x00050000 | errno.ENOSYS
NOTHING = 0x00050000
"""The call returns success and has done nothing."""
KILL = 0x80000000
ALLOW = 0x7FFF0000

NEWEST = 462
"""The last call that this file knows (mseal, Linux 6.10); from 424 on all processors agree."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the processor has no such call
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # other processes, and the kernel's own machinery
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "memfd_secret": (447, 447),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # name spaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # the machine
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    "uselib": (134, None),
    "lookup_dcookie": (212, 18),
    "vhangup": (153, 58),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "lsm_set_self_attr": (460, 460),
    # what arguments decide
    "clone": (56, 220),
    "clone3": (435, 435),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "ioctl": (16, 29),
    "fcntl": (72, 25),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    # a process of one's own
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    # what Landlock leaves open
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "utime": (132, None),
    "utimes": (235, None),
    "utimensat": (280, 88),
    "futimesat": (261, None),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """`call` gives `action`; with `argument`, only if the low 32 bits of that argument pass the
    test: equal to `value`, other than it, or with any or none of its bits."""

    call: str
    action: int = REFUSE
    argument: int | None = None
    test: Literal["equal", "other", "any", "none"] = "equal"
    value: int = 0


def _each(names: str, action: int = REFUSE) -> tuple[Rule, ...]:
    return tuple(Rule(name, action) for name in names.split())


AF_UNIX = 1
CLONE_THREAD = 0x00010000
CLONE_NEW = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP = 0x5412, 0x541C, 0x8901, 0x8902
F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15
PR_SET_PDEATHSIG = 1

ALWAYS: tuple[Rule, ...] = (
    *_each("ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp"),
    *_each("pidfd_getfd add_key request_key keyctl bpf perf_event_open userfaultfd memfd_secret"),
    *_each("io_uring_setup io_uring_enter io_uring_register"),
    *_each("unshare setns mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig"),
    *_each("fsmount fspick mount_setattr statmount listmount"),
    *_each("name_to_handle_at open_by_handle_at fanotify_init"),
    *_each("quotactl quotactl_fd acct swapon swapoff init_module finit_module delete_module"),
    *_each("kexec_load kexec_file_load reboot syslog settimeofday clock_settime clock_adjtime"),
    *_each("adjtimex sethostname setdomainname iopl ioperm modify_ldt personality uselib"),
    *_each("lookup_dcookie vhangup move_pages migrate_pages lsm_set_self_attr"),
    Rule("clone", argument=0, test="any", value=CLONE_NEW),
    Rule("clone3", UNKNOWN),  # its flags lie in memory, where no filter sees them; libc uses clone
    # vsock reaches the host of a virtual machine whatever the network name space
    Rule("socket", argument=0, test="other", value=AF_UNIX),
    Rule("socketpair", argument=0, test="other", value=AF_UNIX),
    Rule("ioctl", argument=1, value=TIOCSTI),
    Rule("ioctl", argument=1, value=TIOCLINUX),
    Rule("prctl", argument=0, value=PR_SET_PDEATHSIG),
)

ALONE: tuple[Rule, ...] = (
    Rule("clone", argument=0, test="none", value=CLONE_THREAD),
    *_each("fork vfork execve execveat"),
    *_each("kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal"),
    *_each("setpriority ioprio_set sched_setscheduler sched_setparam sched_setattr"),
    *_each("sched_setaffinity shmget shmat shmctl semget semctl msgget msgctl mq_open"),
    Rule("prlimit64", argument=0, test="other", value=0),
    *(Rule("ioctl", argument=1, value=command) for command in (FIOSETOWN, SIOCSPGRP)),
    *(Rule("fcntl", argument=1, value=command) for command in (F_SETOWN, F_SETSIG, F_SETOWN_EX)),
    Rule("socket"),
    *_each("truncate chown lchown fchown fchownat"),
    *_each("setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr"),
    # copying a file sets its mode and times: that it has no effect is better than that it fails
    *_each("chmod fchmod fchmodat fchmodat2 utime utimes utimensat futimesat", NOTHING),
)
"""Besides `ALWAYS`, where other processes are in sight and Landlock must be made whole: one process
that makes threads but no process, signals nobody, and changes no file's mode, owner or times."""


def known(machine: str | None = None) -> bool:
    """Whether the numbers of this processor's system calls are written here."""
    return (machine or platform.machine()) in ARCHITECTURES


def program(rules: tuple[Rule, ...], machine: str | None = None) -> bytes:
    """An array of `struct sock_filter`. ValueError if the processor is not `known`."""
    machine = machine or platform.machine()
    column = list(ARCHITECTURES).index(machine)
    code = [
        _load(4),  # seccomp_data.arch
        _equal(ARCHITECTURES[machine], 1, 0),
        _return(KILL),
        _load(0),  # seccomp_data.nr
        _at_least(NEWEST + 1, 0, 1),  # x32's calls are among these, all from 1 << 30
        _return(UNKNOWN),
    ]
    for rule in rules:
        number = NUMBERS[rule.call][column]
        if number is not None:
            code += _block(number, rule)
    code.append(_return(ALLOW))
    return b"".join(code)


def _block(number: int, rule: Rule) -> Iterator[bytes]:
    if rule.argument is None:
        yield from (_equal(number, 0, 1), _return(rule.action))
        return
    yield _equal(number, 0, 4)
    yield _load(16 + 8 * rule.argument)  # the low half: both processors are little-endian
    test = _equal if rule.test in ("equal", "other") else _any_bit
    passes = rule.test in ("equal", "any")
    yield test(rule.value, 0, 1) if passes else test(rule.value, 1, 0)
    yield _return(rule.action)
    yield _load(0)


def _instruction(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, k)


def _load(offset: int) -> bytes:
    return _instruction(0x20, offset)


def _return(value: int) -> bytes:
    return _instruction(0x06, value)


def _equal(value: int, jump_true: int, jump_false: int) -> bytes:
    return _instruction(0x15, value, jump_true, jump_false)


def _at_least(value: int, jump_true: int, jump_false: int) -> bytes:
    return _instruction(0x35, value, jump_true, jump_false)


def _any_bit(value: int, jump_true: int, jump_false: int) -> bytes:
    return _instruction(0x45, value, jump_true, jump_false)
