from __future__ import annotations

import base64
from typing import Any

import pytest
from mcp import types

from puna.tools.mcp import client as client_module
from puna.tools.mcp.client import _tool_name
from puna.tools.tool import Output


def test_names_are_such_that_every_dialect_can_write_them() -> None:
    taken: dict[str, Any] = {}
    for wild, tame in (
        ("get-weather", "s_get_weather"),
        ("get.weather", "s_get_weather_2"),
        ("get weather", "s_get_weather_3"),
        ("åäö", "s____"),
        ("x" * 100, "s_" + "x" * 62),
        ("x" * 99, "s_" + "x" * 57 + "_2"),
    ):
        name = _tool_name("s", wild, taken)
        taken[name] = None
        assert name == tame


def test_data_that_is_broken_or_too_large_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_FILE", 4)
    large = base64.b64encode(b"12345").decode()
    result = types.CallToolResult(
        content=[
            types.ImageContent(data="@@", mime_type="image/png"),
            types.AudioContent(data=large, mime_type="audio/wav"),
        ]
    )
    assert client_module.output_of(result, "s") == Output(
        "[data of type image/png that cannot be read]\n[data of type audio/wav that is too large]",
        source="s",
    )


def test_what_is_only_structured_is_written_as_json() -> None:
    result = types.CallToolResult(content=[], structured_content={"å": 1})
    assert client_module.output_of(result, "s").text == '{"å": 1}'
