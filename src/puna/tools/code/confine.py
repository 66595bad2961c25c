"""A process locks itself in with Landlock and seccomp, before it runs anyone's code. Linux alone.

Like `guest.py` it is given to the child as text, and imports nothing of Puna. Landlock says which
files may be read and written, seccomp which system calls may be made; neither can be undone, and
neither needs root. What they leave open is told in `rungs.py`.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Any

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
PATH_BENEATH = 1
CAPABILITY_VERSION = 0x20080522
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 10, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def system_call(name: str, *arguments: Any) -> int:
    """The result of libc's function `name`. OSError if it is negative."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(getattr(libc, name)(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}{arguments[:1]}: not possible here")
    return result


def landlock_version() -> int:
    """The version of the kernel's Landlock. OSError if it has none."""
    return system_call("syscall", CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))


def become(user: int) -> None:
    """Give up root: be a user that owns nothing and that nobody else is."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if sys.platform == "linux":
        # of the capabilities only the inheritable ones outlive this; they too are to go
        head, none = struct.pack("=Ii", CAPABILITY_VERSION, 0), bytes(24)
        system_call("capset", head, none)
        system_call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)  # or /proc/self would be root's


def ruleset(readable: list[str], writable: list[str]) -> int:
    """A descriptor of rules: read `readable`, write `writable`, open no other file, no network.

    Whoever may open the paths now makes it; they need not be within reach when it is entered.
    """
    version = landlock_version()
    handled = REFER - 1
    handled |= REFER if version >= 2 else 0
    handled |= TRUNCATE if version >= 3 else 0
    handled |= IOCTL_DEV if version >= 5 else 0
    attributes = struct.pack("=Q", handled)
    attributes += struct.pack("=Q", 0b11) if version >= 4 else b""  # TCP bind and connect
    attributes += struct.pack("=Q", 0b11) if version >= 6 else b""  # abstract sockets, signals
    rules = system_call(
        "syscall", CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)
    )
    odd = EXECUTE | MAKE_CHAR | MAKE_SOCK | MAKE_FIFO | MAKE_BLOCK | IOCTL_DEV
    allow(rules, readable, READ_FILE | READ_DIR)
    allow(rules, writable, handled & ~odd)
    allow(rules, DEVICES, READ_FILE | WRITE_FILE)
    return rules


def enter(rules: int, program: bytes) -> None:
    """From here on the rules hold, and only such calls pass as the seccomp `program` lets: for
    this thread and what comes of it, for good. OSError if the kernel cannot."""
    system_call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    system_call("syscall", RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0))
    os.close(rules)
    filter_calls(program)


def allow(rules: int, paths: Any, rights: int) -> None:
    """`rights` to `paths` and all beneath them; a path that is not there is passed over."""
    for path in paths:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        only = rights if os.path.isdir(path) else rights & (READ_FILE | WRITE_FILE | TRUNCATE)
        rule = struct.pack("=Qi", only, place)
        system_call("syscall", ADD_RULE, ctypes.c_int(rules), PATH_BENEATH, rule, ctypes.c_uint(0))
        os.close(place)


def filter_calls(program: bytes) -> None:
    """Load a BPF program (see seccomp.py) for this process and its children."""
    held = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog, with the padding that both known processors put before the pointer
    described = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(held))
    system_call("prctl", PR_SET_SECCOMP, 2, described, 0, 0)


def opened_folders(path: list[str]) -> dict[str, int]:
    """The folders of `path` that exist, each with a descriptor that leads there."""
    return {
        place: os.open(place, os.O_PATH | os.O_CLOEXEC) for place in path if os.path.isdir(place)
    }


def within_reach(opened: dict[str, int]) -> dict[str, str]:
    """Where each folder can be reached: by way of its descriptor where a parent's mode bars the
    user that this process has become."""
    found: dict[str, str] = {}
    for place, descriptor in opened.items():
        if os.access(place, os.R_OK | os.X_OK):
            os.close(descriptor)
            found[place] = place
        else:
            found[place] = f"/proc/self/fd/{descriptor}"
    return found
