"""Who is asked before a tool runs, and how often: never, once, always.

    never    it runs without asking; so does every tool that changes nothing (`read_only`)
    once     a person is asked the first time; a yes holds for as long as this object lives
    always   a person is asked before every call: so, unless told otherwise, with all other tools

It knows no terminal and no wire: `ask` is whoever can ask a person. Where nobody can, a tool that
would have to ask does not run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal, TypeAlias, cast, get_args

from puna.chat import ToolCall
from puna.errors import StartupError, ToolFailed
from puna.tools.tool import Tool

Asking: TypeAlias = Literal["never", "once", "always"]

Ask: TypeAlias = Callable[[Tool, ToolCall], Awaitable[bool]]
"""Asks a person whether this call may run."""


class Approvals:
    """`asking` says by a tool's name how often; what it does not name asks as the tool demands."""

    def __init__(self, asking: Mapping[str, Asking] | None = None, ask: Ask | None = None) -> None:
        self._asking: dict[str, Asking] = dict(asking or {})
        self._ask = ask
        self._granted: set[str] = set()

    def asking(self, tool: Tool) -> Asking:
        return self._asking.get(tool.name, "never" if tool.read_only else "always")

    def can_run(self, tool: Tool) -> bool:
        """Whether it ever may: not where it would have to ask and nobody can be asked."""
        return self._ask is not None or self.asking(tool) == "never"

    def will_ask(self, tool: Tool) -> bool:
        """Whether its next call waits for a person."""
        asking = self.asking(tool)
        return asking == "always" or (asking == "once" and tool.name not in self._granted)

    async def check(self, tool: Tool, call: ToolCall) -> None:
        """Return when the call may run. Raises `ToolFailed`, for the model to read, where not."""
        if not self.will_ask(tool):
            return
        if self._ask is None:
            raise ToolFailed("it may not run: nobody can be asked for approval here")
        if not await self._ask(tool, call):
            raise ToolFailed("the user did not allow this call")
        if self.asking(tool) == "once":
            self._granted.add(tool.name)


def read_asking(pairs: Iterable[str]) -> dict[str, Asking]:
    """`NAME=never|once|always` ... -> a mapping. Raises `StartupError`."""
    asking: dict[str, Asking] = {}
    for pair in pairs:
        name, _, word = (part.strip() for part in pair.rpartition("="))
        if not name or word not in get_args(Asking):
            raise StartupError(
                f"--ask {pair!r}: expected NAME=never, NAME=once or NAME=always: how often you "
                "want to be asked before NAME runs"
            )
        asking[name] = cast(Asking, word)
    return asking
