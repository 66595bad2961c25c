"""The rendering of the chat templates published with the checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile

from puna.chat import Image, Message
from puna.llama.prompt.turns import (
    PYTHON_TAG,
    Conversation,
    Piece,
    Turn,
    arguments_of,
    builtin_call,
    listed,
    to_json,
    tool_json,
)

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

TOOLS_IN_USER = (
    "Given the following functions, please respond with a JSON for a function call "
    "with its proper arguments that best answers the given prompt.\n\n"
)
TOOLS_IN_SYSTEM = (
    "You have access to the following functions. "
    "To call a function, please respond with JSON for a function call."
)
TOOL_FORMAT = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and '
    "its value}.Do not use variables.\n\n"
)


def hf_turns(talk: Conversation, tools_in_user_message: bool) -> Iterator[Turn]:
    # Only the 3.1 template knows built-in tools; to the others they are functions like any, unless
    # the caller wrote the prompt and announced them there.
    known = talk.builtins if talk.family == "3.1" else talk.announced
    builtins = [name for name in talk.builtins if name in known]
    custom = [tool for tool in talk.tools if tool.name not in builtins]
    tools = TOOL_FORMAT + "".join(tool_json(tool) + "\n\n" for tool in custom)

    system = (talk.system or "") if talk.system_is_raw else (talk.system or "").strip()
    if custom and not tools_in_user_message:
        system = TOOLS_IN_SYSTEM + tools + system
    if not (talk.system_is_raw or talk.has_images):
        system = _preamble(talk, builtins) + system
    if system or talk.system_is_raw:
        yield Turn("system", [system])

    bearer = None  # the number of the message that bears the functions
    if custom and tools_in_user_message:
        users = (i for i, message in enumerate(talk.messages) if message.role == "user")
        bearer = next(users, None)
        if bearer is None:
            yield Turn("user", [TOOLS_IN_USER + tools])
    for number, message in enumerate(talk.messages):
        pieces = talk.content(message)
        if number == bearer:
            lead = list(takewhile(lambda piece: isinstance(piece, Image), pieces))
            yield Turn("user", [*lead, TOOLS_IN_USER + tools, *_trimmed(pieces[len(lead) :])])
        elif message.role == "tool":
            yield Turn("ipython", [to_json(message.text)])
        elif message.tool_calls:
            yield from _calls(message, builtins)
        else:
            yield Turn(message.role, pieces if talk.family == "vision" else _trimmed(pieces))


def _preamble(talk: Conversation, builtins: Sequence[str]) -> str:
    day = f"{talk.today.day:02d} {MONTHS[talk.today.month - 1]} {talk.today.year}"
    lines = "Environment: ipython\n" if talk.tools else ""
    if builtins:
        lines += f"Tools: {listed(builtins)}\n\n"
    lines += "Cutting Knowledge Date: December 2023\n"
    # The 3.1 template has this day written in; the others ask the clock.
    return lines + f"Today Date: {'26 Jul 2024' if talk.family == '3.1' else day}\n\n"


def _calls(message: Message, builtins: Sequence[str]) -> Iterator[Turn]:
    """The assistant's text and calls: functions joined by `; ` as the model does it, every built-in
    call a turn of its own, since it ends its message."""
    end = "<|eom_id|>" if builtins else "<|eot_id|>"
    text = message.text.strip()
    for builtin, group in groupby(message.tool_calls, lambda call: call.name in builtins):
        if builtin:
            for call in group:
                yield Turn("assistant", [text, PYTHON_TAG, builtin_call(call)], end)
                text = ""
        else:
            calls = "; ".join(
                f'{{"name": "{call.name}", "parameters": {to_json(arguments_of(call))}}}'
                for call in group
            )
            yield Turn("assistant", [f"{text}\n\n{calls}" if text else calls], end)
            text = ""


def _trimmed(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """Text without the blanks around it; among images it stays as it is."""
    texts = [piece for piece in pieces if isinstance(piece, str)]
    return ["".join(texts).strip()] if len(texts) == len(pieces) else pieces
