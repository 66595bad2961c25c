"""The rendering of Meta's prompt format documents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, cast

from puna.chat import Message, ToolCall
from puna.llama.dialects import BUILTIN_TOOLS, CODE_TOOL
from puna.llama.prompt.turns import (
    PYTHON_TAG,
    Conversation,
    Piece,
    Turn,
    arguments_of,
    builtin_call,
    describe,
    listed,
    to_json,
    tool_json,
)

JSON_TOOLS = (
    "Answer the user's question by making use of the following functions if needed.\n"
    "If none of the function can be used, please say so.\n"
    "Here is a list of functions in JSON format:\n"
)
PYTHONIC_TOOLS = (
    "You are an expert in composing functions. "
    "You are given a question and a set of possible functions.\n"
    "Based on the question, you will need to make one or more function/tool calls to achieve the "
    "purpose.\n"
    "If none of the function can be used, point it out. "
    "If the given question lacks the parameters required by the function,\n"
    "also point it out. You should only return the function call in tools call sections.\n\n"
    "If you decide to invoke any of the function(s), you MUST put it in the format of "
    "[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]\n"
    "You SHOULD NOT include any other text in the response.\n\n"
    "Here is a list of functions in JSON format that you can invoke.\n\n"
)


def meta_turns(talk: Conversation) -> Iterator[Turn]:
    pythonic = talk.family == "3.2"
    blocks: list[str] = []
    if talk.builtins or (talk.custom and not pythonic):
        blocks += [] if talk.system_is_raw else [_preamble(talk)]
    if talk.custom and pythonic:
        described = [describe(tool) for tool in talk.custom]
        blocks += [PYTHONIC_TOOLS + to_json(described, indent=4)]
    if talk.system is not None:
        blocks += [talk.system]
    if blocks:
        yield Turn("system", ["\n\n".join(blocks)])
    if talk.custom and not pythonic:
        tools = "\n".join(tool_json(tool) for tool in talk.custom)
        yield Turn("user", [f"{JSON_TOOLS}{tools}\n\nReturn function calls in JSON format."])

    names = {call.id: call.name for message in talk.messages for call in message.tool_calls}
    for message in talk.messages:
        if message.role == "tool":
            code = names.get(message.tool_call_id or "") == CODE_TOOL
            yield Turn("ipython", [_code_result(message.text) if code else message.text])
        elif message.tool_calls:
            yield from _calls(message, pythonic=pythonic, ipython=bool(talk.tools))
        else:
            yield Turn(message.role, talk.content(message))


def _preamble(talk: Conversation) -> str:
    tools = listed(talk.builtins)
    return (
        "Environment: ipython\n"
        + (f"Tools: {tools}\n" if tools else "\n")
        + "Cutting Knowledge Date: December 2023\nToday Date: 23 July 2024"
    )


def _calls(message: Message, *, pythonic: bool, ipython: bool) -> Iterator[Turn]:
    """As in `hf`; but code is its source, and under ipython functions bear the tag too."""
    text: list[Piece] = [message.text] if message.text else []
    for builtin, group in groupby(message.tool_calls, lambda call: call.name in BUILTIN_TOOLS):
        if builtin:
            for call in group:
                body = _source(call) or builtin_call(call)
                yield Turn("assistant", [*text, PYTHON_TAG, body], "<|eom_id|>")
                text = []
        elif pythonic:
            calls = ", ".join(map(_pythonic_call, group))
            yield Turn("assistant", [*text, f"[{calls}]"])
            text = []
        else:
            calls = "; ".join(
                to_json({"type": "function", "name": call.name, "parameters": arguments_of(call)})
                for call in group
            )
            if ipython:
                yield Turn("assistant", [*text, PYTHON_TAG, calls], "<|eom_id|>")
            else:
                yield Turn("assistant", [*text, calls])
            text = []


def _code_result(text: str) -> str:
    """What Meta's interpreter answers, unless the tool speaks that way already."""
    if text.startswith(("completed\n", "failed\n")):
        return text
    return f"completed\n[stdout]{text}[/stdout]"


def _source(call: ToolCall) -> str | None:
    """The program of a call to the code interpreter."""
    match arguments_of(call):
        case {"code": str(source)} if call.name == CODE_TOOL:
            return source
        case _:
            return None


def _pythonic_call(call: ToolCall) -> str:
    arguments = arguments_of(call)
    if not isinstance(arguments, dict):
        return f"{call.name}({_python(arguments)})"
    given = cast(dict[str, Any], arguments).items()
    return f"{call.name}({', '.join(f'{name}={_python(value)}' for name, value in given)})"


def _python(value: Any) -> str:
    """A JSON value as a Python literal with double quotes."""
    match value:
        case str():
            return to_json(value)
        case list():
            return f"[{', '.join(map(_python, cast(list[Any], value)))}]"
        case dict():
            items = cast(dict[str, Any], value).items()
            return f"{{{', '.join(f'{_python(name)}: {_python(item)}' for name, item in items)}}}"
        case _:
            return str(value)
