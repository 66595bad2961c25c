"""The processes that answer: started when first needed, kept warm, ended when they take too long.

It knows processes, pipes and time, and no mathematics. A child that was ended, or that fell over
its own limits, is replaced by the next question.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from typing import Any, cast

SECONDS = 15.0
START_SECONDS = 60.0
MAX_ANSWER = 64 * 2**10
MAX_CHILDREN = 2


class GaveUp(Exception):
    """Why there is no answer, in a few words."""


class Mathematicians:
    """At most `MAX_CHILDREN` at once; whoever comes later waits. From any event loop."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._idle: list[_Child] = []
        self._threads = ThreadPoolExecutor(MAX_CHILDREN, "puna-mathematics")
        self._ending = weakref.finalize(self, _end, self._idle, self._threads)

    async def ask(self, query: str, today: date) -> Mapping[str, Any]:
        """`{"pods": [...]}` or `{"unknown": why}`. Raises `GaveUp`. Cancelled, it ends a child."""
        question = _Question(query, today, self._seconds)
        running = self._threads.submit(question.run, self._idle)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            question.cancel()
            raise

    def close(self) -> None:
        self._ending()


class _Question:
    """One question on its thread, which may be cancelled from another."""

    def __init__(self, query: str, today: date, seconds: float) -> None:
        self._asked = {"query": query, "today": today.isoformat(), "seconds": seconds}
        self._seconds = seconds
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._cancelled = False

    def run(self, idle: list[_Child]) -> Mapping[str, Any]:
        with self._lock:
            if self._cancelled:
                raise GaveUp("it was cancelled")
            try:
                child = idle.pop()
            except IndexError:
                child = _Child()
            self._child = child
        try:
            answer = child.ask(self._asked, self._seconds)
        except BaseException:
            child.end()
            raise
        with self._lock:
            self._child = None
            if self._cancelled:
                child.end()
            else:
                idle.append(child)
        return answer

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._child is not None:
                self._child.kill()


class _Child:
    def __init__(self) -> None:
        # Isolated: no environment, no working directory, nothing of the user's in its path.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            close_fds=True,
        )
        self._ready = False

    def ask(self, asked: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        if not self._ready:
            self._read(START_SECONDS)
            self._ready = True
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps(asked).encode() + b"\n")
                stdin.flush()
        except OSError:
            raise GaveUp("the process that computes has ended") from None
        return self._read(seconds)

    def _read(self, seconds: float) -> Mapping[str, Any]:
        stdout = self._process.stdout
        if stdout is None:
            raise GaveUp("the process that computes has no output")
        until = time.monotonic() + seconds
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                left = until - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise GaveUp(f"it takes longer than {seconds:g} seconds")
                piece = os.read(stdout.fileno(), 2**14)
                if not piece:
                    raise GaveUp("it takes more time or memory than is allowed")
                line += piece
                if len(line) > MAX_ANSWER:
                    raise GaveUp("its answer is too long")
        try:
            return cast("Mapping[str, Any]", json.loads(line))
        except ValueError:
            raise GaveUp("the process that computes broke off") from None

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


_PROGRAM = "from puna.tools.mathematics.worker import main; main()"


def _end(idle: list[_Child], threads: ThreadPoolExecutor) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    while idle:
        idle.pop().end()
