"""Conversations drawn from a seed, in Puna's words and as the published chat templates want them.

Only such as the templates do not refuse: one call a message, no image beside a system message.
"""

from __future__ import annotations

import json
import random
from datetime import date
from typing import Any

from puna.chat import ChatRequest, Image, Message, Text, ToolCall, ToolSpec, request
from puna.llama.config import PromptFamily

TODAY = date(2026, 11, 3)
BUILTINS = ("brave_search", "wolfram_alpha", "code_interpreter")
TOOLS = (
    ToolSpec("brave_search"),
    ToolSpec("wolfram_alpha", "Reckons"),
    ToolSpec("code_interpreter", "", {"type": "object"}),
    ToolSpec(
        "get_weather",
        "Väder",
        {"type": "object", "properties": {"city": {"type": "string", "enum": ["Malmö"]}}},
    ),
    ToolSpec("f"),
)
WORDS = ("Hi", "  there ", "\n", "日本", "don't", '{"a": 1}', "\t", "a\r\n", " ", "…", "5.50",
         "\u00a0", "🙂", "</s>")  # fmt: skip


def conversation(family: PromptFamily, seed: int) -> tuple[ChatRequest, dict[str, Any]]:
    """A request, and the template's variables (but for `bos_token`) that say the same."""
    rng = random.Random(f"{family} {seed}")

    def words() -> str:
        return "".join(rng.choice(WORDS) for _ in range(rng.randint(0, 5)))

    tools = [tool for tool in TOOLS if rng.random() < 0.25]
    seeing = family == "vision" and not tools and rng.random() < 0.5
    ours: list[Message] = []
    theirs: list[dict[str, Any]] = []

    def say(role: Any, text: str) -> None:
        ours.append(Message(role, (Text(text),)))
        theirs.append({"role": role, "content": text})

    if not seeing and rng.random() < 0.5:
        say("system", words())
    for turn in range(rng.randint(1, 5)):
        kind = "user" if turn == 0 else rng.choice(("user", "assistant", "call", "tool", "system"))
        if seeing and kind == "user":
            pictures, texts = rng.randint(1, 2), [words() for _ in range(rng.randint(0, 2))]
            ours.append(Message("user", (*[Image(b"x")] * pictures, *map(Text, texts))))
            parts = [{"type": "text", "text": text} for text in texts]
            theirs.append({"role": "user", "content": [{"type": "image"}] * pictures + parts})
        elif kind == "call":
            name = rng.choice(TOOLS).name
            arguments: dict[str, Any] = {"query": rng.choice(("x", 'say "hi"', "ö\n1"))}
            if name not in BUILTINS:
                arguments["n"] = rng.choice((1, -2.5, None, [1, {"a": "b"}], True))
            call = ToolCall("c", name, json.dumps(arguments))
            ours.append(Message("assistant", (), (call,)))
            function = {"name": name, "arguments": arguments}
            theirs.append(
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"type": "function", "function": function}],
                }
            )
        else:
            say(kind, words())

    builtins = [tool.name for tool in tools if family == "3.1" and tool.name in BUILTINS]
    functions = [_function(tool) for tool in tools if tool.name not in builtins]
    variables: dict[str, Any] = {"messages": theirs, "tools": functions or None}
    variables["add_generation_prompt"] = True
    variables["tools_in_user_message"] = rng.random() < 0.7
    if builtins:
        variables["builtin_tools"] = builtins
    return request(ours, tools=tuple(tools)), variables


def _function(tool: ToolSpec) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = tool.parameters
    return {"type": "function", "function": function}
