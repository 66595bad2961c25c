"""One conversation's interpreter: calls one after another, state kept, and started anew when lost.

It knows tools and their results, and a `Child` to run code in; no walls and no pipes. Results have
the form that Meta documents: `completed` or `failed`, then `[stdout]...[/stdout]` and
`[stderr]...[/stderr]`, each only if there is something.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from puna.chat import File
from puna.errors import StartupError, ToolFailed
from puna.tools.code.child import Child, Ran
from puna.tools.code.rungs import Limits, Rung
from puna.tools.tool import Output

ANEW = "The interpreter was started anew: names and files of earlier calls are gone."


class Interpreter:
    """Nothing is started before the first call. Its thread and its processes end with `close`, or
    when it is forgotten."""

    def __init__(self, rung: Rung, limits: Limits, packages: bool) -> None:
        self._rung, self._limits, self._packages = rung, limits, packages
        self._child: Child | None = None
        self._used = False
        # one thread for its whole life: see child.py
        self._thread = ThreadPoolExecutor(1, "code_interpreter")

    async def run(self, code: str) -> Output:
        """Run `code`. ToolFailed if it had to be killed; being cancelled, it is killed at once."""
        asked = self._thread.submit(self._run, code)
        answer = asyncio.wrap_future(asked)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if not asked.cancel():  # it runs, it does not wait behind another
                self._cancel()
                await asyncio.wait([answer])
                if not answer.cancelled():
                    answer.exception()  # looked at, so that nobody complains
            raise

    async def close(self) -> None:
        """End the interpreter and all that it started."""
        self._cancel()
        self._used = False
        closing = self._thread.submit(self._kill)
        await asyncio.shield(asyncio.wrap_future(closing))
        self._thread.shutdown(wait=False)

    def _cancel(self) -> None:
        if child := self._child:
            child.cancel()

    def _kill(self) -> None:
        if self._child:
            self._child.kill()
            self._child = None

    def _run(self, code: str) -> Output:
        if self._child is not None and not self._child.alive:
            self._kill()
        anew = False
        if self._child is None:
            anew, self._used = self._used, True
            try:
                self._child = Child(self._rung, self._limits, self._packages)
            except StartupError as error:
                raise ToolFailed(f"The interpreter cannot be started: {error}") from None
        ran = self._child.run(code)
        if ran.ended:
            self._kill()
            said = written("failed", ran, anew)
            raise ToolFailed(f"{said}\nStopped: {ran.ended}. Names and files are lost.")
        said = written("completed" if ran.good else "failed", ran, anew)
        return Output(said, tuple(ran.files), self._rung.label)


def written(status: str, ran: Ran, anew: bool) -> str:
    """The result as the model reads it."""
    parts = [status]
    for name, text in (("stdout", ran.output), ("stderr", ran.error)):
        if text:
            parts.append(f"[{name}]{text.rstrip(chr(10))}[/{name}]")
    if ran.files:
        parts.append("Files for the user: " + ", ".join(_told(file) for file in ran.files))
    parts += [f"Files {note}" for note in ran.notes]
    if anew:
        parts.append(ANEW)
    return "\n".join(parts)


def _told(file: File) -> str:
    return f"{file.name} ({len(file.data)} bytes)"
