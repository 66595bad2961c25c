"""Puna runs the Llama herd on your own hardware, behind the endpoint that programs already speak.

    import puna
    model = puna.load("cria-text")
    print(model.chat("What is the weather in Stockholm?").text)

Names are looked up when they are first used, so that `import puna` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puna.api import Model, image, load
    from puna.chat import (
        File,
        Finished,
        Image,
        Message,
        Reply,
        TextDelta,
        ToolCall,
        ToolResult,
        ToolSpec,
        ToolStarted,
        message,
    )
    from puna.errors import PunaError, ToolFailed
    from puna.tools.function import tool
    from puna.tools.tool import Output, Tool

__all__ = [
    "File",
    "Finished",
    "Image",
    "Message",
    "Model",
    "Output",
    "PunaError",
    "Reply",
    "TextDelta",
    "Tool",
    "ToolCall",
    "ToolFailed",
    "ToolResult",
    "ToolSpec",
    "ToolStarted",
    "image",
    "load",
    "message",
    "tool",
]

_HOMES = {
    "Model": "api",
    "Output": "tools.tool",
    "PunaError": "errors",
    "Tool": "tools.tool",
    "ToolFailed": "errors",
    "image": "api",
    "load": "api",
    "tool": "tools.function",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'puna' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"puna.{_HOMES.get(name, 'chat')}"), name)


def __dir__() -> list[str]:
    return __all__
