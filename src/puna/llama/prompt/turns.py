"""What both renderings start from: the conversation sorted, and the turns that they make of it.

It knows neither rendering: `hf` and `meta` import this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias, cast

from puna.chat import ChatRequest, Image, Message, Text, ToolCall, ToolSpec
from puna.llama.config import PromptFamily
from puna.llama.dialects import BUILTIN_TOOLS, CODE_TOOL
from puna.llama.literals import parse_json
from puna.llama.tokenizer import Tokenizer

RAW_SYSTEM = re.compile(
    r"(?:<\|begin_of_text\|>)?<\|start_header_id\|>system<\|end_header_id\|>\n{0,2}"
    r"(.*?)(?:<\|eot_id\|>)?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Special:
    """A special token among the pieces of a turn."""

    name: str


PYTHON_TAG = Special("<|python_tag|>")
Piece: TypeAlias = str | Image | Special


@dataclass(frozen=True, slots=True)
class Turn:
    """One message as the model reads it: header, pieces, end."""

    role: Literal["system", "user", "assistant", "ipython"]
    pieces: Sequence[Piece]
    end: Literal["<|eot_id|>", "<|eom_id|>"] = "<|eot_id|>"


def offered_tools(request: ChatRequest) -> tuple[ToolSpec, ...]:
    """The tools that the model is told of, and whose calls count: none under tool_choice none."""
    return () if request.tool_choice == "none" else request.tools


class Conversation:
    """The request with its first system message taken out, and its tools sorted."""

    def __init__(
        self,
        request: ChatRequest,
        tokenizer: Tokenizer,
        family: PromptFamily,
        today: date,
        images_first: bool,
    ) -> None:
        self.family = family
        self.today = today
        self.messages = request.messages
        self.system: str | None = None
        self.system_is_raw = False
        if self.messages[0].role == "system":
            self.system = self.messages[0].text
            self.messages = self.messages[1:]
            body = _raw_system_body(self.system, tokenizer)
            if body is not None:
                self.system, self.system_is_raw = body, True
        self.tools = offered_tools(request)
        self.builtins = [tool.name for tool in self.tools if tool.name in BUILTIN_TOOLS]
        self.custom = [tool for tool in self.tools if tool.name not in BUILTIN_TOOLS]
        self.announced = _announced(self.system or "") if self.system_is_raw else frozenset[str]()
        self.has_images = any(images_of(message) for message in self.messages)
        self._images_first = images_first

    def content(self, message: Message) -> list[Piece]:
        """The message's parts as pieces, in the order in which the model shall read them."""
        if self._images_first:
            texts = [part.text for part in message.content if isinstance(part, Text)]
            return [*images_of(message), *texts]
        return [part.text if isinstance(part, Text) else part for part in message.content]


def _raw_system_body(system: str, tokenizer: Tokenizer) -> str | None:
    """The BODY of a system message that is a whole raw system block, else None.

    The caller gains nothing that a plain system message would not give: no special token inside.
    """
    match = RAW_SYSTEM.fullmatch(system.strip())
    if match is None or any(name in match[1] for name in tokenizer.special_names):
        return None
    return match[1]


def _announced(system: str) -> frozenset[str]:
    """The built-in tools that a raw system prompt speaks of: nobody needs to say it twice."""
    if "Environment: ipython" not in system:
        return frozenset()
    line = re.search(r"^Tools:(.*)$", system, re.MULTILINE)
    named = [name.strip() for name in line[1].split(",")] if line else []
    return frozenset({CODE_TOOL, *(name for name in named if name in BUILTIN_TOOLS)})


def images_of(message: Message) -> list[Image]:
    return [part for part in message.content if isinstance(part, Image)]


def listed(builtins: Iterable[str]) -> str:
    """Code needs no mention: `Environment: ipython` stands for it."""
    return ", ".join(name for name in builtins if name != CODE_TOOL)


def describe(tool: ToolSpec) -> dict[str, Any]:
    """The function as callers describe it on the wire; what they left out is left out."""
    described: dict[str, Any] = {"name": tool.name}
    if tool.description:
        described["description"] = tool.description
    if tool.parameters:
        described["parameters"] = dict(tool.parameters)
    return described


def tool_json(tool: ToolSpec) -> str:
    return to_json({"type": "function", "function": describe(tool)}, indent=4)


def arguments_of(call: ToolCall) -> Any:
    """The arguments as a value; what is no JSON stays the text that it is."""
    try:
        return parse_json(call.arguments or "{}")
    except ValueError:
        return call.arguments


def to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def builtin_call(call: ToolCall) -> str:
    arguments = arguments_of(call)
    if not isinstance(arguments, dict):
        arguments = {"query": arguments}
    given = ", ".join(
        f'{name}="{value if isinstance(value, str) else to_json(value)}"'
        for name, value in cast(dict[str, Any], arguments).items()
    )
    return f"{call.name}.call({given})"
