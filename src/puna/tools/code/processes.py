"""The processes beneath a process, as Linux's /proc shows them. It starts none and ends none.

The children's own word is not asked: parents, states, memory and processor time are the kernel's.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
RESIDENT = re.compile(r"^Rss(?:Anon|Shmem):\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Process:
    """`state` is one letter: T stopped, Z ended but not yet waited for. `memory`: resident bytes
    that are no file's. `cpu_seconds`: its own and those of the children that it has waited for."""

    pid: int
    state: str
    parent: int
    memory: int
    cpu_seconds: float

    @property
    def ended(self) -> bool:
        return self.state in "ZX"


def process(pid: int) -> Process | None:
    """What /proc says of `pid`; `None` if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    ticks = sum(int(field) for field in fields[11:15])
    memory = sum(int(kilobytes) for kilobytes in RESIDENT.findall(status)) * 1024
    return Process(pid, fields[0], int(fields[1]), memory, ticks / TICKS)


def below(pid: int) -> Iterator[Process]:
    """The descendants of `pid`, itself not among them; what forks meanwhile may be missed."""
    for child in _children(pid):
        if found := process(child):
            yield found
            yield from below(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    for task in tasks:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            found += [int(word) for word in text.split()]
    return found


def tasks_of(user: int) -> int:
    """How many tasks (threads) the user has, as RLIMIT_NPROC counts them."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == user:
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count
