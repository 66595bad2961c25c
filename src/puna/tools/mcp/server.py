"""Puna as an MCP server: other programs ask its models, have images described, search the web.

It knows the protocol through the official SDK, and of models what `ChatModel` says. Over stdio an
image may be a file of this machine, for whoever started Puna can read it anyway; over HTTP not.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mcp import types
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from puna.chat import ChatModel, ChatRequest, Image, Message, Sampling, Text, collect
from puna.errors import PunaError
from puna.tools.tool import Session, Tool

MAX_IMAGE = 20 * 2**20


def make_server(
    models: Mapping[str, ChatModel], *, search: Tool | None = None, local_files: bool = False
) -> MCPServer[Any]:
    """`models` by the names that callers use; the first answers where none is named.

    `search` is offered if it is there; `describe_image` if a model can see.
    """
    server: MCPServer[Any] = MCPServer(
        "puna",
        version=version("puna"),
        instructions="Llama models on the owner's own hardware.",
        log_level="ERROR",
    )
    read_only = types.ToolAnnotations(read_only_hint=True, open_world_hint=False)
    names = ", ".join(models)
    seeing = {name: one for name, one in models.items() if "image" in one.card.modalities}

    async def ask(
        question: str, model: str | None = None, system: str | None = None, max_tokens: int = 512
    ) -> str:
        return await _answer(_chosen(models, model), [Text(question)], system, max_tokens)

    server.add_tool(
        ask,
        description=f"Ask a language model. `model` is one of: {names}.",
        annotations=read_only,
        structured_output=False,
    )

    async def describe_image(
        image: str,
        question: str = "Describe this image.",
        model: str | None = None,
        max_tokens: int = 512,
    ) -> str:
        parts = [Image(_image_bytes(image, local_files)), Text(question)]
        return await _answer(_chosen(seeing, model), parts, None, max_tokens)

    if seeing:
        what = (
            "the path of a file, a data URL, or base64" if local_files else "a data URL, or base64"
        )
        server.add_tool(
            describe_image,
            description=(
                f"Ask a model about an image. `image` is {what}. `model` is one of: "
                f"{', '.join(seeing)}."
            ),
            annotations=read_only,
            structured_output=False,
        )

    async def search_web(query: str) -> str:
        if search is None:
            raise ToolError("nobody can be asked")
        session = Session()
        try:
            output = await search.run({"query": query}, session)
        except PunaError as error:
            raise ToolError(error.message) from None
        finally:
            await session.close()
        return output.text

    if search is not None:
        server.add_tool(
            search_web,
            name="search",
            description=search.description,
            annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=True),
            structured_output=False,
        )
    return server


async def _answer(
    model: ChatModel, parts: list[Text | Image], system: str | None, max_tokens: int
) -> str:
    messages = [Message("system", (Text(system),))] if system else []
    request = ChatRequest(
        messages=(*messages, Message("user", tuple(parts))),
        sampling=Sampling(max_tokens=max_tokens),
    )
    try:
        reply = await collect(model.stream(request))
    except PunaError as error:
        raise ToolError(error.message) from None
    return reply.text


def _chosen(models: Mapping[str, ChatModel], name: str | None) -> ChatModel:
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        raise ToolError(f"there is no model {name!r}; there are {', '.join(models)}")
    return models[name]


def _image_bytes(image: str, local_files: bool) -> bytes:
    if image.lower().startswith(("http://", "https://")):
        raise ToolError("images are not fetched; give a data URL, or base64")
    header, comma, data = image.partition(",")
    data = data if comma and header.lower().startswith("data:") else image
    if local_files and len(image) < 4096 and not comma and Path(image).expanduser().is_file():
        path = Path(image).expanduser()
        if path.stat().st_size > MAX_IMAGE:
            raise ToolError(f"the image has more than {MAX_IMAGE} bytes")
        return path.read_bytes()
    try:
        decoded = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        what = "no file, and no base64" if local_files else "no base64"
        raise ToolError(f"image is {what}; expected a data URL, or base64") from None
    if not 0 < len(decoded) <= MAX_IMAGE:
        raise ToolError(f"the image is empty, or has more than {MAX_IMAGE} bytes")
    return decoded
