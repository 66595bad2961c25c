"""`open_tools`: from the names that a user writes to tools that can run, and their end.

    brave_search, wolfram_alpha, code_interpreter    what Llama knows by these names
    FILE.py                                          every `@tool` function in it
    mcp:NAME                                         the tools of an MCP server

It knows the names and who makes what stands behind them, and no model.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from puna.errors import StartupError
from puna.loopthread import LoopThread
from puna.settings import Settings
from puna.tools.approvals import Approvals, Ask, Asking
from puna.tools.cassette import Recorder, Tape
from puna.tools.tool import Tool

MCP = "mcp:"
OPENING_SECONDS = 60
CLOSING_SECONDS = 10


class Toolbox:
    """Opened tools: `sources` by the name that brought them. They live on the loop of `thread`,
    where they must run, until `close`."""

    def __init__(self, thread: LoopThread, sources: Mapping[str, Sequence[Tool]]) -> None:
        self.thread = thread
        self.sources = {name: tuple(tools) for name, tools in sources.items()}
        self._endings: list[Callable[[], None]] = []

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(tool for tools in self.sources.values() for tool in tools)

    def add(self, tool: Tool) -> None:
        """One more, under its own name. Raises `StartupError` where there is one of that name."""
        if any(each.name == tool.name for each in self.tools):
            raise StartupError(f"two tools are called {tool.name}; leave one out")
        self.sources[tool.name] = (tool,)

    def at_end(self, do: Callable[[], None]) -> None:
        self._endings.append(do)

    def close(self) -> None:
        """End what stands behind the tools; none may run any more."""
        while self._endings:
            self._endings.pop()()
        self.thread.close()

    def approvals(self, asking: Mapping[str, Asking], ask: Ask | None) -> Approvals:
        """Who is asked before what. `asking` names tools, or what brought them.

        Raises `StartupError` where a name is nobody's, or nobody can be asked who would have to be.
        """
        by_tool: dict[str, Asking] = {}
        for name, often in asking.items():
            meant = self.sources.get(name) or [tool for tool in self.tools if tool.name == name]
            if not meant:
                known = ", ".join(tool.name for tool in self.tools)
                raise StartupError(f"--ask {name}: there is no such tool; there are {known}")
            by_tool |= {tool.name: often for tool in meant}
            if ask is None and often != "never":
                raise StartupError(
                    f"--ask {name}={often}: nobody can be asked here; --ask {name}=never lets it "
                    "run without asking"
                )
        approvals = Approvals(by_tool, ask)
        for source, tools in self.sources.items():
            if not any(map(approvals.can_run, tools)):
                raise StartupError(
                    f"{source} may change things, and nobody can be asked here: --ask "
                    f"{source}=never lets it run without asking"
                )
        return approvals


def open_tools(
    names: Sequence[str],
    settings: Settings,
    *,
    record: Path | None = None,
    replay: Path | None = None,
) -> Toolbox:
    """The tools behind `names` (each may be several, with commas between them).

    `record` is a tape to write. `replay` is one to play: then nothing is opened, and no key is
    needed; without names, all that is on it. Raises `StartupError`, saying what to do.
    """
    wanted = list(dict.fromkeys(part.strip() for name in names for part in name.split(",")))
    wanted = [name for name in wanted if name]
    if record is not None and replay is not None:
        raise StartupError("--record and --replay: a tape is written or played, not both")
    thread = LoopThread("puna-tools")
    if replay is not None:
        return _checked(Toolbox(thread, _on_tape(Tape(replay), wanted, replay)), settings)
    if not wanted:
        raise StartupError("--record: there is nothing to record; name tools with --tools")
    opened = _Opened(wanted, settings)
    box = Toolbox(thread, thread.run(opened.open()))
    box.at_end(lambda: thread.run(opened.close()))
    try:
        _checked(box, settings)
        if record is not None:
            _record(box, record, settings)
    except BaseException:
        box.close()
        raise
    return box


def _on_tape(tape: Tape, wanted: Sequence[str], path: Path) -> dict[str, tuple[Tool, ...]]:
    for name in wanted:
        if name not in tape.tools:
            raise StartupError(
                f"{name} is not on the tape {path}; there is {', '.join(tape.tools)}"
            )
    return {name: tape.tools[name] for name in wanted or tape.tools}


def _record(box: Toolbox, path: Path, settings: Settings) -> None:
    from puna.tools.keys import secrets_of

    recorder = Recorder(path, secrets_of(settings))
    box.at_end(recorder.close)
    box.sources = {
        source: tuple(recorder.recorded(tool, source) for tool in tools)
        for source, tools in box.sources.items()
    }


def _checked(box: Toolbox, settings: Settings) -> Toolbox:
    bringer: dict[str, str] = {}
    for source, tools in box.sources.items():
        for tool in tools:
            if (other := bringer.setdefault(tool.name, source)) != source:
                raise StartupError(
                    f"{other} and {source} both bring a tool called {tool.name}; leave one out"
                )
    for name in settings.pinned_tools:
        if name not in bringer:
            raise StartupError(
                f"--pin {name}: there is no such tool; there are {', '.join(bringer)}"
            )
    return box


class _Opened:
    """Tools on the loop on which they live. What was entered is left by the same task: some of
    what stands behind tools (anyio's cancel scopes) insists on that."""

    def __init__(self, names: Sequence[str], settings: Settings) -> None:
        self._names = names
        self._settings = settings
        self._end = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> dict[str, tuple[Tool, ...]]:
        ready: asyncio.Future[dict[str, tuple[Tool, ...]]] = (
            asyncio.get_running_loop().create_future()
        )
        self._keeper = asyncio.create_task(self._keep(ready))
        try:
            return await ready
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._end.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper], timeout=CLOSING_SECONDS)
            self._keeper.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._keeper

    async def _keep(self, ready: asyncio.Future[dict[str, tuple[Tool, ...]]]) -> None:
        async with AsyncExitStack() as stack:
            try:
                sources = {name: await self._open(name, stack) for name in self._names}
            except BaseException as error:
                if not ready.done():
                    ready.set_exception(error)
                return
            ready.set_result(sources)
            await self._end.wait()

    async def _open(self, name: str, stack: AsyncExitStack) -> tuple[Tool, ...]:
        if name == "brave_search":
            from puna.tools.search import brave_search

            return (brave_search(self._settings),)
        if name == "wolfram_alpha":
            from puna.tools.wolfram import wolfram_alpha

            return (wolfram_alpha(self._settings),)
        if name == "code_interpreter":
            from puna.tools.code import code_interpreter

            return (code_interpreter(self._settings),)
        if name.startswith(MCP):
            return await self._of_server(name, stack)
        if name.endswith(".py"):
            return await asyncio.to_thread(tools_in, Path(name))
        raise StartupError(
            f"there is no tool called {name!r}; there are brave_search, wolfram_alpha, "
            f"code_interpreter, FILE.py and {MCP}NAME"
        )

    async def _of_server(self, name: str, stack: AsyncExitStack) -> tuple[Tool, ...]:
        from puna.tools.mcp.client import open_server

        try:
            async with asyncio.timeout(OPENING_SECONDS):
                server = open_server(name.removeprefix(MCP), self._settings)
                tools = tuple(await stack.enter_async_context(server))
        except TimeoutError:
            raise StartupError(
                f"{name}: the server did not say within {OPENING_SECONDS} seconds what it can do"
            ) from None
        if not tools:
            raise StartupError(f"{name}: the server offers no tools; leave it out")
        return tools


def tools_in(path: Path) -> tuple[Tool, ...]:
    """Every `@tool` of a Python file, which is run for it. Raises `StartupError`."""
    path = path.expanduser()
    if not path.is_file():
        raise StartupError(f"{path}: there is no such file")
    # Under a name of its own: pydantic looks types up in the module of that name.
    name = f"puna_tools_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise StartupError(f"{path} is no Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise StartupError(
            f"{path}: {_where(error, path)}{type(error).__name__}: {error}"
        ) from error
    found = [value for value in vars(module).values() if isinstance(value, Tool)]
    tools = tuple({tool.name: tool for tool in found}.values())
    if not tools:
        raise StartupError(f"{path} has no tools; mark a function with @puna.tool")
    return tools


def _where(error: BaseException, path: Path) -> str:
    """The line of the file that raised `error`."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    lines: list[int] = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f"line {lines[-1]}: " if lines else ""
