"""The ladder of sandboxes for code: what each is made of, and what each leaves open.

It knows how a confined interpreter is started; it starts none, and knows no calls and no results
(`child.py` does that). Every rung runs `guest.py` in a child process with an empty environment, no
inherited files, a session of its own and resource limits. What comes on top:

**bubblewrap** (Linux). New pid, network, IPC and host name spaces; only /usr, the Python that runs
Puna and (by a setting) its packages are there, read-only, and two small memory file systems for
scratch and /tmp. No new privileges, no capabilities, a seccomp filter (no ptrace, bpf, io_uring,
mounts, name spaces, nor any socket but AF_UNIX). Started by root, it gives up root for a user that
nobody else is. Left open:
  - the kernel: a fault in it that the filtered calls still reach ends every promise;
  - installed packages, /usr and a few files of /etc can be read: keep no secret there;
  - the memory and processor time of all processes together are looked at ten times a second, and
    may be exceeded that long; each process for itself cannot exceed its memory;
  - time, and what caches tell of the neighbours: side channels are not closed;
  - what a file that it made does to the program that a person opens it with.

**Landlock** (Linux 5.13 and later, no package needed). One process that may make threads but no
process: fork, exec, signals, sockets, shared memory and the calls that bubblewrap's filter refuses
are refused; files outside its scratch cannot be opened except those of bubblewrap's list. `chmod`
and the like have no effect. Left open, besides bubblewrap's list:
  - it sees that paths exist, their sizes, owners and times (`os.stat`), and this machine's name;
  - its scratch lies on the disk and is measured ten times a second: it can be overfilled that long;
  - started by an ordinary user it runs as that user, whose other processes count as its own
    against the limit on processes.

**Monty** (any system, package `pydantic-monty`). A small Python in Rust, without files, network,
processes and most packages; only some of the language. Left open:
  - its interpreter runs as you, with no wall but itself: a fault in it ends every promise;
  - its limit of memory is its own word;
  - if Puna is killed during a call, its worker goes on until the call's time is over.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import secrets
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from puna.errors import StartupError
from puna.tools.code import seccomp
from puna.tools.code.processes import tasks_of

Name = Literal["bubblewrap", "landlock", "monty"]

HIDDEN = ("cmdline", "kcore", "keys", "kmsg", "sched_debug", "sysrq-trigger", "timer_list")
"""Files of /proc that tell of the machine what no code needs, or do what none may."""
ETC_NAMES = ("ld.so.cache", "alternatives", "localtime", "mime.types", "fonts")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ETC = tuple(f"/etc/{name}" for name in ETC_NAMES)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a conversation's interpreter may use. Bytes and seconds.

    `seconds` of wall time and `cpu_seconds` a call; `memory` of each process and of all together;
    `output`: how much of standard output, and of error, is kept; `flood`: how much is endured.
    """

    seconds: float = 30.0
    cpu_seconds: float = 60.0
    memory: int = 2**30
    processes: int = 64
    scratch: int = 128 * 2**20
    output: int = 10_000
    flood: int = 64 * 2**20
    files: int = 16
    file_bytes: int = 16 * 2**20


@dataclass(slots=True)
class Start:
    """How to start a confined interpreter, once. `config` goes to `guest.main`; `folder` is to be
    removed afterwards; `descriptors` are inherited, and closed here once it runs."""

    arguments: list[str]
    config: dict[str, Any]
    environment: dict[str, str]
    descriptors: list[int] = field(default_factory=list[int])
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Rung:
    """`label` says in a result what held. `prepare` makes a start; StartupError if it cannot be
    had here. `name_space`: its processes are alone in one, under a process that is not theirs."""

    name: Name
    label: str
    remedy: str
    prepare: Callable[[Limits, bool, int], Start]
    name_space: bool = False


BOOT = """import json, os, sys, types
def read(n):
    data = b''
    while len(data) < n:
        piece = os.read(0, n - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data
config = json.loads(read(int.from_bytes(read(4), 'big')))
for name, text in config.pop('sources'):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, '<' + name + '>', 'exec', dont_inherit=True), module.__dict__)
module.main(config)
"""
# asked at import, for sysconfig's first use is not safe in several threads at once
PACKAGES = list(
    dict.fromkeys(os.path.realpath(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
)
"""Where packages are that Puna could import."""
HERE = Path(__file__).parent
SOURCES = {
    "puna.tools.limits": HERE.parent / "limits.py",
    "puna.tools.code.confine": HERE / "confine.py",
    "puna.tools.code.guest": HERE / "guest.py",
}


def _python() -> str:
    """The interpreter beneath any virtual environment: it finds its library without files of it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _library() -> list[str]:
    """The folders and files that `_python` itself needs."""
    base = Path(os.path.realpath(sys.base_prefix))
    return [str(base / name) for name in ("bin", "lib", "lib64") if (base / name).exists()]


def _readable(packages: bool) -> list[str]:
    return [*_library(), *(PACKAGES if packages else [])]


def _outside_usr(places: list[str]) -> list[str]:
    return [place for place in places if not place.startswith("/usr/")]


def _arguments() -> list[str]:
    return [_python(), "-I", "-S", "-B", "-u", "-X", "utf8", "-c", BOOT]


def _environment(scratch: str, home: str) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "PWD": scratch,
        "LANG": "C.UTF-8",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": home,
        # a thread a core of a large machine would not fit the limits
        "OMP_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "4",
    }


def _config(limits: Limits, control: int, processes: int | None, **more: Any) -> dict[str, Any]:
    return {
        "sources": [[name, place.read_text("utf-8")] for name, place in SOURCES.items()],
        "control": control,
        "language": "python",
        "limits": {
            "memory": limits.memory,
            "file_bytes": limits.scratch,
            "processes": processes,
        },
        "walls": None,
        "become": None,
        "parent": 0,
        "end_others": False,
        "max_files": limits.files,
        "max_file_bytes": limits.file_bytes,
        "seconds": limits.seconds,
        **more,
    }


def nobody_else() -> int:
    """A user id that owns nothing and runs nothing, among those that this process may become."""
    ranges: list[tuple[int, int]] = []
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        ranges.append((count, first))
    count, first = max(ranges)
    if count < 2**16:
        raise StartupError("this container has too few user ids to give up root")
    top = min(first + count, 2**31)
    return top - 2 - secrets.randbelow(min(count // 4, 10**8))


def _linux_only(name: str) -> None:
    if sys.platform != "linux":
        raise StartupError(f"{name} is Linux's alone")
    if not seccomp.known():
        known = " and ".join(seccomp.ARCHITECTURES)
        raise StartupError(f"no seccomp filter for {platform.machine()}; there is one for {known}")


def _memory_file(data: bytes) -> int:
    descriptor = os.memfd_create("puna", os.MFD_CLOEXEC)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _bubblewrap(limits: Limits, packages: bool, control: int) -> Start:
    _linux_only("bubblewrap")
    found = shutil.which("bwrap")
    if not found:
        raise StartupError("bwrap is not installed")
    root = os.geteuid() == 0
    user = nobody_else() if root else 1000
    table = {
        "/etc/passwd": f"sandbox:x:{user}:{user}:sandbox:/tmp:/bin/sh\n",
        "/etc/group": f"sandbox:x:{user}:\n",
    }
    filter_file = _memory_file(seccomp.program(seccomp.ALWAYS))
    descriptors = [filter_file]
    arguments = [found, "--die-with-parent", "--new-session"]
    arguments += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    arguments += ["--unshare-cgroup-try", "--hostname", "sandbox"]
    if root:  # a user name space would map its user to root; instead the guest gives root up
        arguments += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        arguments += ["--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
        arguments += ["--uid", str(user), "--gid", str(user)]
    for place in SYSTEM:
        if os.path.islink(place):
            arguments += ["--symlink", os.readlink(place), place]
        elif os.path.isdir(place):
            arguments += ["--ro-bind", place, place]
    places = _outside_usr(_readable(packages))
    within = (*places, *table)
    for place in ("/scratch", "/tmp"):  # before what is bound: this Python may live in /tmp
        arguments += ["--perms", "1777", "--size", str(limits.scratch), "--tmpfs", place]
    for parent in sorted({str(parent) for place in within for parent in Path(place).parents}):
        if parent not in (
            "/",
            "/tmp",
        ):  # else bwrap gives it the mode of the original, root's home 0700
            arguments += ["--perms", "0755", "--dir", parent]
    for place in (*ETC, *places):
        arguments += ["--ro-bind-try", place, place]
    for place, text in table.items():
        descriptor = _memory_file(text.encode())
        descriptors.append(descriptor)
        arguments += ["--perms", "0444", "--ro-bind-data", str(descriptor), place]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for name in HIDDEN:
        if os.path.exists(f"/proc/{name}"):
            arguments += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    arguments += ["--perms", "1777", "--size", str(limits.scratch // 2), "--tmpfs", "/dev/shm"]
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/scratch"]
    arguments += ["--seccomp", str(filter_file), "--", *_arguments()]
    version = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    ours = 0 if root or version >= (5, 14) else tasks_of(os.geteuid())
    config = _config(
        limits,
        control,
        ours + limits.processes,
        scratch="/scratch",
        packages=PACKAGES if packages else [],
        become=user if root else None,
        end_others=True,
    )
    environment = _environment("/scratch", "/tmp")
    return Start(arguments, config, environment, descriptors)


def _landlock(limits: Limits, packages: bool, control: int) -> Start:
    _linux_only("Landlock")
    root = os.geteuid() == 0
    user = nobody_else() if root else None
    folder = Path(tempfile.mkdtemp(prefix="puna-code-"))
    scratch, home = folder / "scratch", folder / "home"
    for place in (folder, scratch, home):
        place.mkdir(exist_ok=True)
        if user is not None:
            os.chown(place, user, user)
    walls = {
        "readable": [*SYSTEM, *ETC, "/proc/cpuinfo", "/proc/meminfo", *_readable(packages)],
        "writable": [str(scratch), str(home)],
        "program": seccomp.program(seccomp.ALWAYS + seccomp.ALONE).hex(),
    }
    ours = 0 if root else tasks_of(os.geteuid())
    config = _config(
        limits,
        control,
        ours + limits.processes,
        scratch=str(scratch),
        packages=PACKAGES if packages else [],
        become=user,
        parent=os.getpid(),
        walls=walls,
    )
    environment = _environment(str(scratch), str(home))
    return Start(_arguments(), config, environment, folder=folder)


def _monty(limits: Limits, packages: bool, control: int) -> Start:
    if importlib.util.find_spec("pydantic_monty") is None:
        raise StartupError("pydantic-monty is not installed")
    from pydantic_monty._binary import find_monty_binary

    folder = Path(tempfile.mkdtemp(prefix="puna-code-"))
    config = _config(
        limits,
        control,
        None,
        scratch=str(folder),
        packages=PACKAGES,
        language="monty",
        monty=find_monty_binary(),
        memory=limits.memory,
        parent=os.getpid(),
    )
    config["limits"]["memory"] = limits.memory + 2**30  # the worker's own room besides the code's
    return Start(_arguments(), config, _environment(str(folder), str(folder)), folder=folder)


LADDER: tuple[Rung, ...] = (
    Rung(
        "bubblewrap",
        "Python in bubblewrap",
        "install bubblewrap 0.8 or newer, and allow user name spaces (or run as root)",
        _bubblewrap,
        name_space=True,
    ),
    Rung(
        "landlock",
        "Python confined by Landlock",
        "use a Linux of 5.13 or later with Landlock in its list of security modules",
        _landlock,
    ),
    Rung("monty", "Monty, a restricted Python", "pip install 'puna[tools]'", _monty),
)
"""The strongest first."""
