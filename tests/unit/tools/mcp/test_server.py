"""Puna as an MCP server, spoken to by the official client in this process."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError

from puna.chat import Image, ModelCard
from puna.errors import InvalidImage, ToolFailed
from puna.scripted import ScriptedModel, echo
from puna.tools.mcp.server import make_server
from puna.tools.tool import Arguments, Output, Session, Tool

PICTURE = b"\x89PNG picture"


def blind(*scripts: Any) -> ScriptedModel:
    return ScriptedModel(*scripts, card=ModelCard(name="blind"))


async def said(client: Client, name: str, **arguments: Any) -> tuple[bool, str]:
    result = await client.call_tool(name, arguments)
    return result.is_error, "".join(getattr(one, "text", "?") for one in result.content)


def search(answer: str | ToolFailed) -> Tool:
    async def run(arguments: Arguments, _: Session) -> Output:
        if isinstance(answer, ToolFailed):
            raise answer
        return Output(f"{answer} {arguments['query']}")

    return Tool("brave_search", "Search.", {"type": "object"}, run, read_only=True)


async def test_what_can_be_done_is_offered_and_nothing_else() -> None:
    seeing = ScriptedModel("x")
    for server, names in (
        (make_server({"blind": blind("x")}), ["ask"]),
        (make_server({"blind": blind("x"), "seeing": seeing}), ["ask", "describe_image"]),
        (make_server({"blind": blind("x")}, search=search("x")), ["ask", "search"]),
    ):
        async with Client(server) as client:
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == names
            assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)


async def test_a_model_is_asked_by_name() -> None:
    one, two = blind(echo), blind("two")
    async with Client(make_server({"one": one, "two": two})) as client:
        assert await said(client, "ask", question="hello there") == (False, "hello there")
        assert await said(client, "ask", question="x", model="two") == (False, "two")
        error, text = await said(client, "ask", question="x", model="three")
        assert error
        assert "there are one, two" in text
        await said(client, "ask", question="x", system="Be brief.", max_tokens=3)
    request = one.requests[-1]
    assert [message.role for message in request.messages] == ["system", "user"]
    assert request.sampling.max_tokens == 3


@pytest.mark.parametrize("data_url", [True, False])
async def test_an_image_is_shown_to_a_model_that_sees(data_url: bool) -> None:
    seeing = ScriptedModel("A square.")
    data = ("data:image/png;base64," if data_url else "") + base64.b64encode(PICTURE).decode()
    async with Client(make_server({"blind": blind("x"), "seeing": seeing})) as client:
        assert await said(client, "describe_image", image=data) == (False, "A square.")
        error, text = await said(client, "describe_image", image=data, model="blind")
        assert error
        assert "there are seeing" in text
    assert seeing.requests[0].messages[0].content[0] == Image(PICTURE)


async def test_files_are_read_only_for_who_started_puna(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(PICTURE)
    seeing = ScriptedModel("x")
    async with Client(make_server({"m": seeing}, local_files=True)) as client:
        assert await said(client, "describe_image", image=str(path)) == (False, "x")
    assert seeing.requests[0].messages[0].content[0] == Image(PICTURE)
    async with Client(make_server({"m": seeing})) as client:
        error, text = await said(client, "describe_image", image=str(path))
        assert error
        assert "base64" in text
    assert len(seeing.requests) == 1


@pytest.mark.parametrize("image", ["", "@@@", "http://127.0.0.1/a.png", "data:image/png;base64,"])
async def test_what_is_no_image_is_told(image: str) -> None:
    async with Client(make_server({"m": ScriptedModel("x")})) as client:
        error, text = await said(client, "describe_image", image=image)
        assert error
        assert "image" in text


async def test_a_models_refusal_is_told_in_its_words() -> None:
    refusing = ScriptedModel(InvalidImage("that is no picture"))
    async with Client(make_server({"m": refusing})) as client:
        image = base64.b64encode(PICTURE).decode()
        error, text = await said(client, "describe_image", image=image)
        assert error
        assert text.endswith(": that is no picture")


async def test_search_passes_on_what_it_finds_and_why_it_fails() -> None:
    async with Client(make_server({"m": blind("x")}, search=search("found"))) as client:
        assert await said(client, "search", query="puna") == (False, "found puna")
    failing = make_server({"m": blind("x")}, search=search(ToolFailed("used up")))
    async with Client(failing) as client:
        error, text = await said(client, "search", query="puna")
        assert error
        assert text.endswith(": used up")


async def test_a_caller_that_goes_away_stops_the_model() -> None:
    slow = ScriptedModel("one two three four five six", delay=0.2)
    async with Client(make_server({"m": slow}), mode="legacy") as client:
        with pytest.raises(MCPError):
            await client.call_tool("ask", {"question": "x"}, read_timeout_seconds=0.3)
        for _ in range(100):
            if not slow.running:
                break
            await asyncio.sleep(0.02)
        assert slow.cancelled == 1
