"""A confined interpreter from outside: started, given code, watched, stopped, killed.

It knows processes and pipes; no conversation and no model. All that the child writes is hostile
data: of standard output and error a bounded part is kept, of frames only known kinds of bounded
size. Between calls the child is stopped, so that nothing it began goes on in the dark.

Everything here happens in one thread, which must live as long as the child: Linux ends the child
when the thread that started it ends, and so nothing is left when Puna dies.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mimetypes
import os
import re
import select
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from puna.chat import File
from puna.errors import StartupError
from puna.tools.code.processes import Process, below, process
from puna.tools.code.rungs import Limits, Rung

TICK = 0.1
STARTING = 20.0
LARGEST_NAME = 1000
MOST_ENTRIES = 10_000
DEEPEST = 100
USED_UP = 113  # what guest.py exits with
CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


@dataclass(slots=True)
class Ran:
    """How a call went. `ended`: why the child was killed, or "" if it lives on.

    `error` and `output` are cut, with a note, to `Limits.output`.
    """

    good: bool = False
    output: str = ""
    error: str = ""
    files: list[File] = field(default_factory=list[File])
    notes: list[str] = field(default_factory=list[str])
    ended: str = ""


class Kept:
    """The first and the last part of a stream of bytes, and how much there was."""

    def __init__(self, room: int) -> None:
        self.first, self.last, self.total = bytearray(), bytearray(), 0
        self._rooms = room * 3 // 4, room - room * 3 // 4

    def add(self, data: bytes) -> None:
        self.total += len(data)
        free = self._rooms[0] - len(self.first)
        self.first += data[:free]
        self.last = (self.last + data[max(free, 0) :])[-self._rooms[1] :]

    def text(self) -> str:
        """For people and models: no control characters, and a note where the middle is missing."""
        missing = self.total - len(self.first) - len(self.last)
        if missing <= 0:
            return _plain(bytes(self.first + self.last))
        first, last = _plain(bytes(self.first)), _plain(bytes(self.last))
        return f"{first.rstrip(chr(0xFFFD))}\n[... {missing} bytes left out ...]\n" + last.lstrip(
            chr(0xFFFD)
        )


def _plain(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n").translate(CONTROLS)


class Frames:
    """Reads the child's frames as they come. ValueError as soon as they break the rules."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._pending, self._room = limits, bytearray(), 0
        self._names: set[str] = set()

    def expect(self) -> None:
        """A call begins: so much may come, and no more."""
        self._room = self._limits.file_bytes + (self._limits.files + 32) * (LARGEST_NAME + 10)
        self._pending.clear()
        self._names.clear()

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        self._room -= len(data)
        if self._room < 0:
            raise ValueError("it sent more than was agreed")
        self._pending += data
        while len(self._pending) >= 5:
            kind, length = chr(self._pending[0]), int.from_bytes(self._pending[1:5], "big")
            if kind not in "RDFN" or length > self._limits.file_bytes + LARGEST_NAME + 2:
                raise ValueError("it sent what is no frame")
            if len(self._pending) < 5 + length:
                return
            payload = bytes(self._pending[5 : 5 + length])
            del self._pending[: 5 + length]
            yield kind, payload

    def file(self, payload: bytes) -> File:
        """A file whose name is safe to show and to save under."""
        length = int.from_bytes(payload[:2], "big")
        if length > LARGEST_NAME or len(payload) < 2 + length or len(self._names) >= 48:
            raise ValueError("it sent what is no file")
        name = safe_name(payload[2 : 2 + length].decode("utf-8", "replace"), self._names)
        self._names.add(name)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return File(name, kind, payload[2 + length :])


def safe_name(wanted: str, taken: set[str]) -> str:
    """`wanted` as a name in one folder: letters, digits, space and `._-`, not hidden, not taken."""
    name = re.sub(r"[^\w. -]", "_", wanted).strip(" .")[-100:].lstrip(" .") or "file"
    stem, dot, ending = name.rpartition(".") if "." in name else (name, "", "")
    count = 1
    while name.casefold() in {other.casefold() for other in taken}:
        count += 1
        name = f"{stem}-{count}{dot}{ending}"
    return name


class Child:
    """`kill` may be asked for from any thread by `cancel`; all else is for the one thread."""

    def __init__(self, rung: Rung, limits: Limits, packages: bool) -> None:
        """Start it. StartupError, with a reason, if it does not come up behind its walls."""
        self._rung, self._limits = rung, limits
        self._cancelled = threading.Event()
        self._frames = Frames(limits)
        hear, control = os.pipe()
        try:
            start = rung.prepare(limits, packages, control)
            self._folder = start.folder
            # also if nobody closes it: then when it is forgotten, or when Puna ends
            self._forget = weakref.finalize(self, _remove, start.folder) if start.folder else None
            self._process = subprocess.Popen(
                start.arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(control, *start.descriptors),
                env=start.environment,
                cwd="/",
                start_new_session=True,
            )
        except BaseException as error:
            os.close(hear)
            if isinstance(error, OSError):
                raise StartupError(f"{rung.name} does not start: {error}") from None
            raise
        finally:
            os.close(control)
        for descriptor in start.descriptors:
            os.close(descriptor)
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        if not (stdin and stdout and stderr):
            raise StartupError(f"{rung.name} does not start: no pipes")
        self._ask, self._output, self._error = stdin.fileno(), stdout.fileno(), stderr.fileno()
        self._hear, self._descriptors = hear, [hear]
        for descriptor in (self._ask, self._output, self._error, hear):
            os.set_blocking(descriptor, False)
        self._first: int | None = None
        self._inner: int | None = None
        ran = self._exchange(json.dumps(start.config).encode(), "R", STARTING)
        if ran.ended:
            told = ran.error.strip().splitlines()[-1:] or [ran.ended]
            raise StartupError(f"{rung.name} does not start: {told[0]}")
        if rung.name_space:
            # bwrap's child is the first in the name space, and its child is the interpreter
            for found in below(self._process.pid):
                self._first, self._inner = self._inner, os.pidfd_open(found.pid)
                self._descriptors.append(self._inner)
        self._pause()

    def run(self, code: str) -> Ran:
        """Run `code`. Afterwards the child is paused, or, if `ended` says why, dead."""
        self._signal(signal.SIGCONT)
        try:
            ran = self._exchange(code.encode("utf-8", "surrogatepass"), "D", self._limits.seconds)
        except BaseException:
            self.kill()
            raise
        if not ran.ended:
            self._pause()
            if self._others():
                ran.ended = "it left processes behind that could not be ended"
                self.kill()
        return ran

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def cancel(self) -> None:
        """Have the call that runs end at once, with the child. From any thread."""
        self._cancelled.set()

    def kill(self) -> None:
        """End it with all that it started, and remove its scratch. When this returns, it is so."""
        if self._first is not None:
            # it takes the whole name space with it, and has ended when all the others have
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            select.select([self._first], [], [], 5)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
        if not self._rung.name_space:
            self._kill_group()
        while self._process.poll() is None:
            for found in [*below(self._process.pid)]:
                _kill(found.pid)
            _kill(self._process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(TICK)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._first = self._inner = None
        if self._forget:
            self._forget()

    def _kill_group(self) -> None:
        """Kill the child and its own children at one blow, so that none can start another."""
        others = [*below(self._process.pid)]
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        until = time.monotonic() + 1
        while any((now := process(one.pid)) and not now.ended for one in others):
            if time.monotonic() > until:
                break
            time.sleep(0.005)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):
            if self._inner is not None:
                signal.pidfd_send_signal(self._inner, number)
            elif not self._rung.name_space:
                self._process.send_signal(number)

    def _pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def _others(self) -> bool:
        """Whether in the name space more is alive than belongs there, a second after it should not
        be: what was killed takes a moment to go."""
        if not self._rung.name_space:
            return False
        until = time.monotonic() + 1
        while sum(not found.ended for found in below(self._process.pid)) > 2:
            if time.monotonic() > until:
                return True
            time.sleep(0.005)
        return False

    def _exchange(self, request: bytes, last: str, seconds: float) -> Ran:
        """Send one frame, and gather what comes until a frame of kind `last`."""
        ran = Ran()
        output, error = Kept(self._limits.output), Kept(self._limits.output)
        self._frames.expect()
        watch = Watch(self._process.pid, self._limits, self._folder)
        pending = memoryview(len(request).to_bytes(4, "big") + request)
        until = time.monotonic() + seconds
        done = False
        with selectors.DefaultSelector() as selector:
            selector.register(self._ask, selectors.EVENT_WRITE)
            for descriptor in (self._output, self._error, self._hear):
                selector.register(descriptor, selectors.EVENT_READ)
            try:
                while not done:
                    self._check(until, seconds, output.total + error.total, watch)
                    for key, _ in selector.select(TICK / 2):
                        if key.fd == self._ask:
                            pending = pending[_write(self._ask, pending) :]
                            if not pending:
                                selector.unregister(self._ask)
                            continue
                        data = _read(key.fd)
                        if data is None:
                            continue
                        if not data and key.fd != self._hear:
                            selector.unregister(key.fd)  # the code closed it
                        elif key.fd != self._hear:
                            (output if key.fd == self._output else error).add(data)
                        elif not data:
                            raise _Ended(self._how_it_ended())
                        else:
                            done = self._take(data, last, ran) or done
            except _Ended as why:
                ran.ended = str(why)
            except ValueError as why:
                ran.ended = f"the interpreter broke the protocol: {why}"
        if not ran.ended:
            self._pause()  # or another thread of it might write on for ever
        for descriptor, kept in ((self._output, output), (self._error, error)):
            while data := _read(descriptor):
                kept.add(data)
                if kept.total > self._limits.flood * 2:
                    break
        ran.output, ran.error = output.text(), error.text()
        if ran.ended:
            ran.good = False
            self.kill()
        return ran

    def _check(self, until: float, seconds: float, written: int, watch: Watch) -> None:
        if self._cancelled.is_set():
            raise _Ended("it was cancelled")
        if time.monotonic() > until:
            raise _Ended(f"it took longer than {seconds:g} seconds")
        if written > self._limits.flood:
            raise _Ended(f"it wrote more than {self._limits.flood} bytes of output")
        if self._process.poll() is not None:
            raise _Ended(self._how_it_ended())
        watch.look()

    def _take(self, data: bytes, last: str, ran: Ran) -> bool:
        """Take in frames; whether the last one was among them."""
        for kind, payload in self._frames.feed(data):
            if kind == last:
                ran.good = payload == b"1"
                return True
            if kind == "F":
                ran.files.append(self._frames.file(payload))
            elif kind == "N" and len(ran.notes) < 4:
                ran.notes.append(_plain(payload[:2000]))
            elif kind in "RD":
                raise ValueError("a frame out of turn")
        return False

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        code = self._process.returncode
        if code is None:
            return "the interpreter closed its line to Puna"
        if code == USED_UP:
            return "its memory is used up"
        number = -code if code < 0 else code - 128
        with contextlib.suppress(ValueError):
            return f"the interpreter was killed by {signal.Signals(number).name}"
        return f"the interpreter ended with exit code {code}"


class _Ended(Exception):
    """Why a child has to be killed, or is dead."""


class Watch:
    """Limits that the kernel does not hold for all processes of a child together."""

    def __init__(self, pid: int, limits: Limits, folder: Path | None) -> None:
        self._pid, self._limits, self._folder = pid, limits, folder
        self._before = self._cpu([*self._all()])
        self._next = 0.0

    def _all(self) -> Iterator[Process]:
        if itself := process(self._pid):
            yield itself
        yield from below(self._pid)

    def _cpu(self, them: list[Process]) -> float:
        return sum(one.cpu_seconds for one in them)

    def look(self) -> None:
        """At most every TICK. _Ended if a limit is exceeded."""
        if sys.platform != "linux" or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + TICK
        them = [*self._all()]
        if sum(one.memory for one in them) > self._limits.memory * 1.25:
            raise _Ended(f"all its processes together used more than {self._limits.memory} bytes")
        if self._cpu(them) - self._before > self._limits.cpu_seconds:
            raise _Ended(f"it used more than {self._limits.cpu_seconds:g} processor seconds")
        if self._folder is not None and _size(self._folder) > self._limits.scratch:
            raise _Ended(f"it wrote more than {self._limits.scratch} bytes into its scratch folder")


def _size(folder: Path) -> int:
    """Bytes on the disk beneath `folder`, each entry a page at least; no link is followed. _Ended
    where there is more than can be measured in a moment."""
    total = entries = 0
    waiting = [(str(folder), 0)]
    while waiting:
        place, depth = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(place) as inside:
            for entry in inside:
                with contextlib.suppress(OSError):
                    total += max(entry.stat(follow_symlinks=False).st_blocks * 512, 4096)
                entries += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, depth + 1))
        if entries > MOST_ENTRIES or depth > DEEPEST:
            raise _Ended("it made too many files, or folders too deep")
    return total


def _read(descriptor: int) -> bytes | None:
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _write(descriptor: int, data: memoryview) -> int:
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # it is dead, and the other pipes will say so


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _remove(folder: Path) -> None:
    """`folder` and all in it, however deep: what lies in a folder is lifted to the top until no
    folder is left. Links are removed, never followed; nobody writes there any more."""
    lifted = itertools.count()
    while folders := [entry for entry in _entries(folder) if entry.is_dir(follow_symlinks=False)]:
        for inner in folders:
            with contextlib.suppress(OSError):
                os.chmod(inner.path, 0o700)
            for entry in _entries(inner.path):
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        os.rename(entry.path, folder / f".lifted-{next(lifted)}")
                    else:
                        os.unlink(entry.path)
            try:
                os.rmdir(inner.path)
            except OSError:
                return  # it cannot be emptied: leave it rather than try for ever
    shutil.rmtree(folder, ignore_errors=True)


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as inside:
            return list(inside)
    except OSError:
        return []
