"""Runs escapes and ways not to stop behind one wall, and says what came of them.

Imported by the suite, and run by it as another user: a job as JSON on standard input, answers as
JSON on standard output. It needs Puna's sources and the standard library alone.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from puna.errors import ToolFailed
from puna.tools.code.interpreter import Interpreter
from puna.tools.code.processes import below
from puna.tools.code.rungs import LADDER, Limits, Rung
from tests.e2e.escapes import ESCAPES, FIND_CONTROL, FORGERIES, PRELUDE

SHORT = Limits(seconds=0.4, memory=2**28, scratch=16 * 2**20, flood=4 * 2**20, file_bytes=4 * 2**20)
LANES = 4


def rung_called(name: str) -> Rung:
    return next(rung for rung in LADDER if rung.name == name)


async def said(interpreter: Interpreter, code: str) -> str:
    try:
        return (await interpreter.run(code)).text
    except ToolFailed as error:
        return f"killed\n{error}"


async def escapes(rung: Rung, outside: dict[str, Any]) -> dict[str, str]:
    """What each escape printed."""
    found: dict[str, str] = {}
    interpreter = Interpreter(rung, replace(SHORT, seconds=10, output=100_000), True)
    for name, code in ESCAPES.items():
        found[name] = await said(interpreter, PRELUDE.format(outside=outside) + code)
    await interpreter.close()
    return found


async def forgeries(rung: Rung) -> dict[str, tuple[str, str]]:
    """How each forged message ended, and what the next call gave."""
    found: dict[str, tuple[str, str]] = {}
    interpreter = Interpreter(rung, replace(SHORT, seconds=5), False)
    for name, code in FORGERIES.items():
        ended = await said(interpreter, FIND_CONTROL + code)
        found[name] = (ended, await said(interpreter, "2 + 2"))
    await interpreter.close()
    return found


class Traces:
    """What tells the processes of an interpreter from all others: a session, or a name space,
    kept open here so that no later one is given its number."""

    def __init__(self, interpreter: Interpreter) -> None:
        child = interpreter._child
        if child is None:
            raise RuntimeError("nothing runs")
        self.session, self.name_space = child._process.pid, None
        if child._rung.name_space:
            *_, inner = below(self.session)
            self.held = open(f"/proc/{inner.pid}/ns/pid", "rb")  # noqa: SIM115
            self.name_space = os.fstat(self.held.fileno()).st_ino

    def living(self) -> list[str]:
        """The processes that bear these traces and have not ended."""
        found: list[str] = []
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                text = Path(f"/proc/{name}/stat").read_text(errors="replace")
                fields = text.rpartition(")")[2].split()
                if self.name_space:
                    inside = os.stat(f"/proc/{name}/ns/pid").st_ino == self.name_space
                else:
                    inside = int(fields[3]) == self.session
            except OSError:
                continue
            if inside and fields[0] not in "ZX":
                found.append(text[:60])
        return found

    def close(self) -> list[str]:
        found = self.living()
        if self.name_space:
            self.held.close()
        return found


async def started(interpreter: Interpreter) -> Traces:
    """The traces of one that runs: a thread left behind may have ended it since."""
    for _ in range(10):
        if interpreter._child is not None and interpreter._child.alive:
            with contextlib.suppress(ValueError, OSError):
                return Traces(interpreter)
        await said(interpreter, "1")
    raise RuntimeError("no interpreter stays alive")


NEXT = "import sys; print('next', 2 + 2, file=sys.stderr)"


async def ways(rung: Rung, them: dict[str, str]) -> dict[str, dict[str, Any]]:
    """For each way not to stop: seconds taken, what was left of it, and the next call."""
    found: dict[str, dict[str, Any]] = {}
    waiting = list(them.items())
    following = NEXT if rung.name != "monty" else "print('next', 2 + 2)"

    async def lane() -> None:
        interpreter = Interpreter(rung, SHORT, False)
        while waiting:
            name, code = waiting.pop()
            before = await started(interpreter)
            began = time.monotonic()
            text = await said(interpreter, code)
            took = time.monotonic() - began
            killed = text.startswith("killed")
            living = before.living()
            # of one that lives: the first of its name space, and the interpreter
            left = living if killed or len(living) > 2 else []
            for _ in range(5):  # a machine under load may take longer than the short limit
                then = await said(interpreter, following)
                if "next 4" in then:
                    break
            found[name] = {"took": took, "left": left, "next": then[-300:], "said": text[-300:]}
            before.close()
        before = await started(interpreter)
        await interpreter.close()
        if left := before.close():
            found[name]["left"] = left

    await asyncio.gather(*(lane() for _ in range(LANES)))
    return found


async def answer(job: dict[str, Any]) -> dict[str, Any]:
    rung = rung_called(job["rung"])
    found: dict[str, Any] = {}
    if outside := job.get("outside"):
        found["escapes"] = await escapes(rung, outside)
    if them := job.get("ways"):
        found["ways"] = await ways(rung, dict(_pairs(them)))
    return found


def _pairs(them: Iterable[list[str]]) -> Iterable[tuple[str, str]]:
    return ((name, code) for name, code in them)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(answer(json.load(sys.stdin)))))
