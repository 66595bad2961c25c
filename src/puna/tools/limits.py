"""What a process may use, set by itself before it does anything for others, and for good.

It knows no tools and imports nothing of Puna: children that start without Puna are given this file
as it stands. Every limit is lowered, soft and hard at once, so that what runs later in the process
cannot raise it again (root can: such a process gives up root first).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def limit_process(
    *,
    memory: int | None = None,
    cpu_seconds: int | None = None,
    file_bytes: int | None = None,
    processes: int | None = None,
    open_files: int | None = 256,
) -> None:
    """Limits for this process and for each of its children; `None` leaves one as it is.

    memory: bytes of address space a process (RLIMIT_AS); then allocations fail with MemoryError.
    cpu_seconds: over the whole life of the process; then it is killed.
    file_bytes: the largest file it may write. processes: tasks of its user, threads included,
    counted by the kernel over all that this user runs. No core dumps, whatever else is said.
    """
    import resource

    wanted = {
        "RLIMIT_AS": memory,
        "RLIMIT_CPU": cpu_seconds,
        "RLIMIT_FSIZE": file_bytes,
        "RLIMIT_NPROC": processes,
        "RLIMIT_NOFILE": open_files,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }
    for name, value in wanted.items():
        which = getattr(resource, name, None)
        if which is None or value is None:
            continue
        _, hard = resource.getrlimit(which)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        if name == "RLIMIT_AS" and sys.platform == "darwin":
            continue  # macOS knows it but refuses to set it
        resource.setrlimit(which, (value, value))


def die_with_parent(parent: int) -> None:
    """Be killed when the thread that started this process ends. `parent`: the pid it had then.

    Linux alone; elsewhere nothing is done. Not kept across a change of user.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked


def step_back() -> None:
    """Leave processor time to others, and be the first to go when the machine's memory ends."""
    with contextlib.suppress(OSError):
        os.nice(5)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
