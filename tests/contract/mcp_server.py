"""A real MCP server, for tests to start: `stdio` or `http PORT`. It behaves, or worse."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from pathlib import Path
from typing import Any

from mcp import types
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server: MCPServer[Any] = MCPServer("for-tests", log_level="ERROR")
READ_ONLY = types.ToolAnnotations(read_only_hint=True)


@server.tool(annotations=READ_ONLY)
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(structured_output=False)
def whoami() -> str:
    """Say the process id, and what of the environment came here."""
    return f"{os.getpid()} {os.environ.get('TOKEN', '-')} {os.environ.get('BRAVE_API_KEY', '-')}"


@server.tool(structured_output=False)
def fail() -> str:
    """Fail."""
    raise ToolError("it did not work")


@server.tool(structured_output=False)
def picture() -> list[types.ContentBlock]:
    """Words, a picture, a file and a link."""
    data = base64.b64encode(b"\x89PNG picture").decode()
    blob = base64.b64encode(b"bytes").decode()
    return [
        types.TextContent(text="Here it is:"),
        types.ImageContent(data=data, mime_type="image/png"),
        types.EmbeddedResource(
            resource=types.TextResourceContents(uri="file:///a.txt", text="a text")
        ),
        types.EmbeddedResource(
            resource=types.BlobResourceContents(
                uri="file:///b.csv", blob=blob, mime_type="text/csv"
            )
        ),
        types.ResourceLink(name="more", uri="https://example.com/more"),
    ]


@server.tool(name="die.now", structured_output=False)
def die() -> str:
    """End the server in the middle of a call."""
    os._exit(3)


@server.tool(annotations=READ_ONLY, structured_output=False)
def die_once(mark: str) -> str:
    """End the server the first time, answer the second."""
    if not Path(mark).exists():
        Path(mark).write_text("once")
        os._exit(3)
    return "alive"


@server.tool(structured_output=False)
async def sleep(seconds: float, mark: str) -> str:
    """Sleep; write down whether it was cancelled."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        Path(mark).write_text("cancelled")  # noqa: ASYNC240
        raise
    return "slept"


if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
