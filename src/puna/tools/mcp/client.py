"""`open_server`: the tools of an MCP server, over stdio or HTTP, as Puna's own.

A server's tool is called `SERVER_TOOL`, always: what a tool is called must not depend on what else
is open. It knows the protocol through the official SDK, and no model. A server that ends is started
again by the next call; a call during which it ended is repeated only if the tool changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import os
import re
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from mimetypes import guess_extension
from typing import TYPE_CHECKING, Any, TextIO, cast

from puna.chat import File
from puna.errors import PunaError, StartupError, ToolFailed
from puna.settings import Settings
from puna.tools.mcp.config import Server, find
from puna.tools.tool import Arguments, Output, Run, Session, Tool

if TYPE_CHECKING:
    import mcp
    from mcp import types

START_SECONDS = 60.0
CALL_SECONDS = 300.0
MAX_NAME = 64
MAX_TOOLS = 1000
MAX_FILE = 32 * 2**20


@asynccontextmanager
async def open_server(name: str, settings: Settings) -> AsyncGenerator[list[Tool]]:
    """The tools of the server that the user called `name`. They run on this event loop.

    Raises `StartupError` where there is no such server, or it does not start or answer.
    """
    connection = Connection(name, find(name, settings))
    try:
        yield _tools(name, connection, await connection.tools())
    finally:
        await connection.close()


def _tools(name: str, connection: Connection, listed: Sequence[types.Tool]) -> list[Tool]:
    made: dict[str, Tool] = {}
    for one in listed:
        called = _tool_name(name, one.name, made)
        read_only = one.annotations is not None and one.annotations.read_only_hint is True
        made[called] = Tool(
            name=called,
            description=one.description or one.title or one.name,
            parameters=one.input_schema,
            run=_run(connection, one.name, read_only),
            read_only=read_only,
        )
    return list(made.values())


def _tool_name(server: str, tool: str, taken: Mapping[str, Tool]) -> str:
    """A name that every dialect of Llama's can write: letters, digits and underscores."""
    plain = re.sub(r"\W", "_", f"{server}_{tool}", flags=re.ASCII)
    name, count = plain[:MAX_NAME], 1
    while name in taken:
        count += 1
        name = f"{plain[: MAX_NAME - 5]}_{count}"
    return name


def _run(connection: Connection, tool: str, read_only: bool) -> Run:
    async def run(arguments: Arguments, _: Session) -> Output:
        result = await connection.call(tool, arguments, again=read_only)
        output = output_of(result, f"the MCP server {connection.name}")
        if result.is_error:
            raise ToolFailed(output.text or f"{tool} failed, and does not say why")
        return output

    return run


class Connection:
    """One server, connected when first needed.

    The SDK insists that a connection is entered and left by one task, so each has a keeper.
    """

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self._server = server
        self._opening = asyncio.Lock()
        self._client: mcp.Client | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._end = asyncio.Event()

    async def tools(self) -> list[types.Tool]:
        """All pages of what the server offers. Raises `StartupError`."""
        client = await self._connected()
        found: list[types.Tool] = []
        cursor: str | None = None
        try:
            async with asyncio.timeout(START_SECONDS):
                while len(found) < MAX_TOOLS:
                    page = await client.list_tools(cursor=cursor)
                    found += page.tools
                    cursor = page.next_cursor
                    if not cursor:
                        break
        except Exception as error:  # whatever the SDK or a wild server brings up
            raise StartupError(
                f"mcp:{self.name} cannot say what it can do: {_told(error)}"
            ) from None
        return found[:MAX_TOOLS]

    async def call(self, tool: str, arguments: Arguments, *, again: bool) -> types.CallToolResult:
        """Raises `ToolFailed`. `again`: a call that broke off may be sent a second time."""
        from mcp import MCPError

        try:
            client = await self._connected()
        except PunaError as error:
            raise ToolFailed(str(error)) from None
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await client.call_tool(tool, dict(arguments))
        except TimeoutError:
            raise ToolFailed(f"{tool} took longer than {CALL_SECONDS:g} seconds") from None
        except MCPError as error:
            if not _lost(error):
                raise ToolFailed(f"{tool} failed: {_told(error)}") from None
        except Exception as error:  # whatever the SDK or a wild server brings up
            if not _is_connection(error):
                raise ToolFailed(
                    f"{tool} gave a result that breaks the protocol: {_told(error)}"
                ) from None
        if client is self._client:  # else another call that broke off was here before
            await self.close()
        if not again:
            raise ToolFailed(
                f"the MCP server {self.name} ended during the call; whether {tool} did its work is "
                "not known; the next call starts the server again"
            )
        return await self.call(tool, arguments, again=False)

    async def close(self) -> None:
        """Leave the server; a later call connects anew."""
        keeper, self._keeper, self._client = self._keeper, None, None
        if keeper is not None:
            self._end.set()
            with suppress(Exception):  # a server that is gone cannot be left politely
                await keeper

    async def _connected(self) -> mcp.Client:
        async with self._opening:
            client = self._client
            if client is None:
                end = self._end = asyncio.Event()
                ready: asyncio.Future[mcp.Client] = asyncio.get_running_loop().create_future()
                self._keeper = asyncio.create_task(self._keep(ready, end))
                client = self._client = await self._awaited(ready, self._keeper)
            return client

    async def _awaited(
        self, ready: asyncio.Future[mcp.Client], keeper: asyncio.Task[None]
    ) -> mcp.Client:
        try:
            async with asyncio.timeout(START_SECONDS):
                return await asyncio.shield(ready)
        except BaseException as error:
            ready.cancel()
            keeper.cancel()
            await asyncio.wait([keeper])
            self._keeper = None
            if not isinstance(error, TimeoutError):
                raise
            raise StartupError(
                f"mcp:{self.name} does not answer within {START_SECONDS:g} seconds"
            ) from None

    async def _keep(self, ready: asyncio.Future[mcp.Client], end: asyncio.Event) -> None:
        words = LastWords()
        try:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(await self._made(stack, words))
                ready.set_result(client)
                await end.wait()
        except Exception as error:  # whatever the SDK or a wild server brings up
            if not ready.done():
                said = words.said()
                told = f"{_told(error)}; it said: {said}" if said else _told(error)
                ready.set_exception(
                    StartupError(f"mcp:{self.name} ({self._server.shown}) cannot be used: {told}")
                )
        finally:
            words.close()

    async def _made(self, stack: AsyncExitStack, words: LastWords) -> mcp.Client:
        import httpx2
        from mcp import Client, StdioServerParameters, stdio_client
        from mcp import types as protocol
        from mcp.client.streamable_http import streamable_http_client

        # The SDK logs what a wild server says; without this that lands on the user's terminal.
        logging.getLogger("mcp").addHandler(logging.NullHandler())
        if self._server.url:
            # One answer may take as long as a call; MCP's own streams are silent for long.
            timeout = httpx2.Timeout(30, read=CALL_SECONDS)
            http = httpx2.AsyncClient(headers=dict(self._server.headers), timeout=timeout)
            await stack.enter_async_context(http)
            transport = streamable_http_client(self._server.url, http_client=http)
        else:
            command, *args = self._server.command
            parameters = StdioServerParameters(
                command=command, args=args, env=dict(self._server.env)
            )
            transport = stdio_client(parameters, errlog=words.file)
        return Client(transport, client_info=protocol.Implementation(name="puna", version="1"))


class LastWords:
    """The end of what a server writes to its stderr: told if it does not start."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self.file: TextIO = os.fdopen(write, "w")
        self._end = b""
        self._thread = threading.Thread(target=self._listen, args=(read,), daemon=True)
        self._thread.start()

    def _listen(self, read: int) -> None:
        with os.fdopen(read, "rb", buffering=0) as pipe:
            while piece := pipe.read(4096):
                self._end = (self._end + piece)[-4096:]

    def said(self) -> str:
        """The last line, once the server has ended."""
        self.close()
        self._thread.join(1)
        lines = self._end.decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip()[-300:] if lines else ""

    def close(self) -> None:
        self.file.close()


def output_of(result: types.CallToolResult, source: str) -> Output:
    """Texts for the model; images, sounds and other data as files, which the text names."""
    texts: list[str] = []
    files: list[File] = []

    def keep(data: str, media_type: str) -> None:
        try:
            decoded = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            texts.append(f"[data of type {media_type} that cannot be read]")
            return
        if sum(len(file.data) for file in files) + len(decoded) > MAX_FILE:
            texts.append(f"[data of type {media_type} that is too large]")
            return
        kind = media_type.partition("/")[0] or "file"
        name = f"{kind}-{len(files) + 1}{guess_extension(media_type) or ''}"
        files.append(File(name, media_type, decoded))
        texts.append(f"[{name}, {media_type}, {len(decoded)} bytes: shown to the user]")

    for block in result.content:
        match block.type:
            case "text":
                texts.append(block.text)
            case "image" | "audio":
                keep(block.data, block.mime_type)
            case "resource":
                resource: Any = block.resource
                if hasattr(resource, "text"):
                    texts.append(resource.text)
                else:
                    keep(resource.blob, resource.mime_type or "application/octet-stream")
            case "resource_link":
                texts.append(f"{block.title or block.name}: {block.uri}")
    if not result.content and result.structured_content is not None:
        texts.append(json.dumps(result.structured_content, ensure_ascii=False))
    return Output("\n".join(texts), tuple(files), source)


def _lost(error: mcp.MCPError) -> bool:
    from mcp.types import CONNECTION_CLOSED

    return error.code == CONNECTION_CLOSED or "session terminated" in error.message.lower()


def _is_connection(error: Exception) -> bool:
    import anyio
    import httpx2

    gone = (
        anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream,
        httpx2.TransportError, ConnectionError,
    )  # fmt: skip
    return isinstance(error, gone)


def _told(error: BaseException) -> str:
    """One line, from the innermost of what anyio wraps."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:300] or type(error).__name__
