"""What a tool is: a name, a JSON schema, and an async function that runs a call.

It knows no model, no loop and no wire. Whatever can be called is a `Tool`: a Python function, a
search service, an interpreter, a tool of an MCP server; and a wrapper is a `Tool` that holds
another (that is how calls are recorded, replayed and counted).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from puna.chat import File, ToolSpec

Arguments: TypeAlias = Mapping[str, Any]
"""The parsed JSON object of a call: checked against the tool's schema before `run` sees it."""


class Closable(Protocol):
    async def close(self) -> None: ...


K = TypeVar("K", bound=Closable)


class Session:
    """What tools keep for one conversation: an interpreter, say. Closed when it ends or idles."""

    def __init__(self) -> None:
        self._kept: dict[str, Closable] = {}

    def keep(self, key: str, make: Callable[[], K]) -> K:
        """What was kept under `key`; the first time, what `make` makes."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast(K, self._kept[key])

    def __bool__(self) -> bool:
        """Whether anything is kept."""
        return bool(self._kept)

    async def close(self) -> None:
        kept, self._kept = self._kept, {}
        faults = await asyncio.gather(
            *(one.close() for one in kept.values()), return_exceptions=True
        )
        for fault in faults:
            if fault is not None:
                raise fault


@dataclass(frozen=True, slots=True)
class Output:
    """What a call gave. `text` is all that the model reads; `files` are for people.

    `source` says in a word or two what answered ("Brave Search", "SymPy on this machine").
    """

    text: str
    files: tuple[File, ...] = ()
    source: str = ""


STOPPED = "it did not end in time, and was stopped"
"""What the model is told of a call that took too long."""

Run: TypeAlias = Callable[[Arguments, Session], Awaitable[Output]]


@dataclass(frozen=True, slots=True)
class Tool:
    """`parameters` is a JSON schema of an object. `run` raises `ToolFailed` with a message for the
    model; being cancelled, it ends what it began.

    `read_only`: it changes nothing outside its own scratch, so that it may run without asking.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Run
    read_only: bool = False

    @property
    def spec(self) -> ToolSpec:
        """How it is offered to a model."""
        return ToolSpec(self.name, self.description, self.parameters)


def crashed(error: Exception) -> str:
    """What the model is told of a tool whose code failed."""
    return f"the tool crashed: {type(error).__name__}: {error}"
