"""A conversation to token ids, in the formats that Llama 3.1, 3.2 and 3.2 Vision were taught.

It knows no model, no checkpoint and no generation: messages in, ids and images out. Special ids are
written here and nowhere else; what people and tools wrote is encoded as plain text, whatever it
looks like. Two renderings: `hf` equals the chat templates published with the checkpoints wherever
those have an answer, and goes on in the obvious way where they raise; `meta` follows Meta's prompt
format documents. Both first turn the request into `Turn`s; one writer turns these into ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby, takewhile
from typing import Any, Literal, TypeAlias, cast

from puna.chat import ChatRequest, Image, Message, Text, ToolCall, ToolSpec
from puna.errors import InvalidValue
from puna.llama.config import PromptFamily
from puna.llama.dialects import BUILTIN_TOOLS, CODE_TOOL
from puna.llama.literals import parse_json
from puna.llama.tokenizer import Tokenizer

PromptStyle: TypeAlias = Literal["hf", "meta"]

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

RAW_SYSTEM = re.compile(
    r"(?:<\|begin_of_text\|>)?<\|start_header_id\|>system<\|end_header_id\|>\n{0,2}"
    r"(.*?)(?:<\|eot_id\|>)?",
    re.DOTALL,
)

HF_TOOLS_IN_USER = (
    "Given the following functions, please respond with a JSON for a function call "
    "with its proper arguments that best answers the given prompt.\n\n"
)
HF_TOOLS_IN_SYSTEM = (
    "You have access to the following functions. "
    "To call a function, please respond with JSON for a function call."
)
HF_TOOL_FORMAT = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and '
    "its value}.Do not use variables.\n\n"
)
META_JSON_TOOLS = (
    "Answer the user's question by making use of the following functions if needed.\n"
    "If none of the function can be used, please say so.\n"
    "Here is a list of functions in JSON format:\n"
)
META_PYTHONIC_TOOLS = (
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


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """`images` are in the order of their tokens in `token_ids`."""

    token_ids: tuple[int, ...]
    images: tuple[Image, ...] = ()


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


def render_prompt(
    request: ChatRequest,
    tokenizer: Tokenizer,
    family: PromptFamily,
    *,
    today: date,
    style: PromptStyle = "hf",
    images_first: bool = True,
    tools_in_user_message: bool = True,
    add_generation_prompt: bool = True,
) -> RenderedPrompt:
    """The conversation as ids, ready for the model to go on as the assistant.

    `images_first` puts a message's images before its text (Meta's advice: only later tokens see
    them); else they stay where they stand. `tools_in_user_message` concerns `hf` alone.

    Raises InvalidValue for no messages, for an image that this family cannot see, and for one
    outside a user's message; CheckpointError when the tokenizer lacks a special token.
    """
    if not request.messages:
        raise InvalidValue(
            "messages is empty: expected at least one message, such as "
            '{"role": "user", "content": "Hello"}',
            param="messages",
        )
    _check_images(request.messages, family)
    _check_tools(request.tools)
    conversation = _Conversation(request, tokenizer, family, today, images_first)
    if style == "hf":
        turns = _hf_turns(conversation, tools_in_user_message)
    else:
        turns = _meta_turns(conversation)
    writer = _Writer(tokenizer, apart=style == "meta")
    writer.special("<|begin_of_text|>")
    for turn in turns:
        writer.turn(turn)
    if add_generation_prompt:
        writer.header("assistant")
    return writer.finish()


class _Writer:
    """Turns into ids. `apart`: every piece is encoded for itself, as Meta's code does; else text is
    encoded from special token to special token, as a template's output is."""

    def __init__(self, tokenizer: Tokenizer, *, apart: bool) -> None:
        self._tokenizer = tokenizer
        self._apart = apart
        self._ids: list[int] = []
        self._images: list[Image] = []
        self._pending = ""

    def special(self, name: str) -> None:
        self._flush()
        self._ids.append(self._tokenizer.special(name))

    def text(self, text: str) -> None:
        self._pending += text
        if self._apart:
            self._flush()

    def header(self, role: str) -> None:
        self.special("<|start_header_id|>")
        self.text(role)
        self.special("<|end_header_id|>")
        self.text("\n\n")

    def turn(self, turn: Turn) -> None:
        self.header(turn.role)
        for piece in turn.pieces:
            match piece:
                case str():
                    self.text(piece)
                case Special():
                    self.special(piece.name)
                case Image():
                    self.special("<|image|>")
                    self._images.append(piece)
        self.special(turn.end)

    def finish(self) -> RenderedPrompt:
        self._flush()
        return RenderedPrompt(tuple(self._ids), tuple(self._images))

    def _flush(self) -> None:
        if self._pending:
            self._ids += self._tokenizer.encode(self._pending)
            self._pending = ""


class _Conversation:
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
        self.has_images = any(_images(message) for message in self.messages)
        self._images_first = images_first

    def content(self, message: Message) -> list[Piece]:
        """The message's parts as pieces, in the order in which the model shall read them."""
        if self._images_first:
            texts = [part.text for part in message.content if isinstance(part, Text)]
            return [*_images(message), *texts]
        return [part.text if isinstance(part, Text) else part for part in message.content]


def _hf_turns(talk: _Conversation, tools_in_user_message: bool) -> Iterator[Turn]:
    # Only the 3.1 template knows built-in tools; to the others they are functions like any.
    builtins = talk.builtins if talk.family == "3.1" else []
    custom = talk.custom if talk.family == "3.1" else talk.tools
    tools = HF_TOOL_FORMAT + "".join(_tool_json(tool) + "\n\n" for tool in custom)

    system = (talk.system or "") if talk.system_is_raw else (talk.system or "").strip()
    if custom and not tools_in_user_message:
        system = HF_TOOLS_IN_SYSTEM + tools + system
    if not (talk.system_is_raw or talk.has_images):
        system = _hf_preamble(talk, builtins) + system
    if system or talk.system_is_raw:
        yield Turn("system", [system])

    bearer = None  # the number of the message that bears the functions
    if custom and tools_in_user_message:
        users = (i for i, message in enumerate(talk.messages) if message.role == "user")
        bearer = next(users, None)
        if bearer is None:
            yield Turn("user", [HF_TOOLS_IN_USER + tools])
    for number, message in enumerate(talk.messages):
        pieces = talk.content(message)
        if number == bearer:
            lead = list(takewhile(lambda piece: isinstance(piece, Image), pieces))
            yield Turn("user", [*lead, HF_TOOLS_IN_USER + tools, *_trimmed(pieces[len(lead) :])])
        elif message.role == "tool":
            yield Turn("ipython", [json.dumps(message.text, ensure_ascii=False)])
        elif message.tool_calls:
            yield from _hf_calls(message, builtins)
        else:
            yield Turn(message.role, pieces if talk.family == "vision" else _trimmed(pieces))


def _hf_preamble(talk: _Conversation, builtins: Sequence[str]) -> str:
    day = f"{talk.today.day:02d} {MONTHS[talk.today.month - 1][:3]} {talk.today.year}"
    lines = "Environment: ipython\n" if talk.tools else ""
    if builtins:
        lines += f"Tools: {_listed(builtins)}\n\n"
    lines += "Cutting Knowledge Date: December 2023\n"
    # The 3.1 template has this day written in; the others ask the clock.
    return lines + f"Today Date: {'26 Jul 2024' if talk.family == '3.1' else day}\n\n"


def _hf_calls(message: Message, builtins: Sequence[str]) -> Iterator[Turn]:
    """The assistant's text and calls: functions joined by `; ` as the model does it, every built-in
    call a turn of its own, since it ends its message."""
    end = "<|eom_id|>" if builtins else "<|eot_id|>"
    text = message.text.strip()
    for builtin, group in groupby(message.tool_calls, lambda call: call.name in builtins):
        if builtin:
            for call in group:
                yield Turn("assistant", [text, PYTHON_TAG, _builtin_call(call)], end)
                text = ""
        else:
            calls = "; ".join(
                f'{{"name": "{call.name}", "parameters": {_json(_arguments(call))}}}'
                for call in group
            )
            yield Turn("assistant", [f"{text}\n\n{calls}" if text else calls], end)
            text = ""


def _meta_turns(talk: _Conversation) -> Iterator[Turn]:
    pythonic = talk.family == "3.2"
    blocks: list[str] = []
    if talk.builtins or (talk.custom and not pythonic):
        blocks += [] if talk.system_is_raw else [_meta_preamble(talk)]
    if talk.custom and pythonic:
        described = [_function(tool) for tool in talk.custom]
        blocks += [META_PYTHONIC_TOOLS + _json(described, indent=4)]
    if talk.system is not None:
        blocks += [talk.system]
    if blocks:
        yield Turn("system", ["\n\n".join(blocks)])
    if talk.custom and not pythonic:
        tools = "\n".join(_tool_json(tool) for tool in talk.custom)
        yield Turn("user", [f"{META_JSON_TOOLS}{tools}\n\nReturn function calls in JSON format."])

    names = {call.id: call.name for message in talk.messages for call in message.tool_calls}
    for message in talk.messages:
        if message.role == "tool":
            code = names.get(message.tool_call_id or "") == CODE_TOOL
            yield Turn("ipython", [_meta_code_result(message.text) if code else message.text])
        elif message.tool_calls:
            yield from _meta_calls(message, pythonic=pythonic, ipython=bool(talk.tools))
        else:
            yield Turn(message.role, talk.content(message))


def _meta_preamble(talk: _Conversation) -> str:
    tools = _listed(talk.builtins)
    return (
        "Environment: ipython\n"
        + (f"Tools: {tools}\n" if tools else "\n")
        + "Cutting Knowledge Date: December 2023\nToday Date: 23 July 2024"
    )


def _meta_calls(message: Message, *, pythonic: bool, ipython: bool) -> Iterator[Turn]:
    """As `_hf_calls`; code is the source itself, and under ipython functions bear the tag too."""
    text: list[Piece] = [message.text] if message.text else []
    for builtin, group in groupby(message.tool_calls, lambda call: call.name in BUILTIN_TOOLS):
        if builtin:
            for call in group:
                body = _source(call) or _builtin_call(call)
                yield Turn("assistant", [*text, PYTHON_TAG, body], "<|eom_id|>")
                text = []
        elif pythonic:
            calls = ", ".join(map(_pythonic_call, group))
            yield Turn("assistant", [*text, f"[{calls}]"])
            text = []
        else:
            calls = "; ".join(
                _json({"type": "function", "name": call.name, "parameters": _arguments(call)})
                for call in group
            )
            if ipython:
                yield Turn("assistant", [*text, PYTHON_TAG, calls], "<|eom_id|>")
            else:
                yield Turn("assistant", [*text, calls])
            text = []


def _meta_code_result(text: str) -> str:
    """What Meta's interpreter answers, unless the tool speaks that way already."""
    if text.startswith(("completed\n", "failed\n")):
        return text
    return f"completed\n[stdout]{text}[/stdout]"


def _raw_system_body(system: str, tokenizer: Tokenizer) -> str | None:
    """The BODY of a system message that is a whole raw system block, else None.

    The caller gains nothing that a plain system message would not give: no special token inside.
    """
    match = RAW_SYSTEM.fullmatch(system.strip())
    if match is None or any(name in match[1] for name in tokenizer.special_names):
        return None
    return match[1]


def _check_images(messages: Iterable[Message], family: PromptFamily) -> None:
    for index, message in enumerate(messages):
        if not _images(message):
            continue
        if family != "vision":
            raise InvalidValue(
                f"messages[{index}] holds an image, and this model reads text alone: "
                "send text, or ask a vision model",
                param=f"messages[{index}].content",
            )
        if message.role != "user":
            raise InvalidValue(
                f"messages[{index}] has role {message.role} and holds an image: images belong in "
                "messages with role user",
                param=f"messages[{index}].content",
            )


def _check_tools(tools: Sequence[ToolSpec]) -> None:
    for index, tool in enumerate(tools):
        try:
            _tool_json(tool)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidValue(
                f"the parameters of tool {tool.name} cannot be written as JSON: {error}",
                param=f"tools[{index}].function.parameters",
            ) from None


def _images(message: Message) -> list[Image]:
    return [part for part in message.content if isinstance(part, Image)]


def _trimmed(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """Text without the blanks around it; among images it stays as it is."""
    texts = [piece for piece in pieces if isinstance(piece, str)]
    return ["".join(texts).strip()] if len(texts) == len(pieces) else pieces


def _listed(builtins: Iterable[str]) -> str:
    """Code needs no mention: `Environment: ipython` stands for it."""
    return ", ".join(name for name in builtins if name != CODE_TOOL)


def _function(tool: ToolSpec) -> dict[str, Any]:
    described: dict[str, Any] = {"name": tool.name}
    if tool.description:
        described["description"] = tool.description
    if tool.parameters:
        described["parameters"] = dict(tool.parameters)
    return described


def _tool_json(tool: ToolSpec) -> str:
    return _json({"type": "function", "function": _function(tool)}, indent=4)


def _arguments(call: ToolCall) -> Any:
    """The arguments as a value; what is no JSON stays the text that it is."""
    try:
        return parse_json(call.arguments or "{}")
    except ValueError:
        return call.arguments


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _builtin_call(call: ToolCall) -> str:
    arguments = _arguments(call)
    if not isinstance(arguments, dict):
        arguments = {"query": arguments}
    given = ", ".join(
        f'{name}="{value if isinstance(value, str) else _json(value)}"'
        for name, value in cast(dict[str, Any], arguments).items()
    )
    return f"{call.name}.call({given})"


def _source(call: ToolCall) -> str | None:
    """The program of a call to the code interpreter."""
    match _arguments(call):
        case {"code": str(source)} if call.name == CODE_TOOL:
            return source
        case _:
            return None


def _pythonic_call(call: ToolCall) -> str:
    arguments = _arguments(call)
    if not isinstance(arguments, dict):
        return f"{call.name}({_python(arguments)})"
    given = cast(dict[str, Any], arguments).items()
    return f"{call.name}({', '.join(f'{name}={_python(value)}' for name, value in given)})"


def _python(value: Any) -> str:
    """A JSON value as a Python literal with double quotes."""
    match value:
        case str():
            return _json(value)
        case list():
            return f"[{', '.join(map(_python, cast(list[Any], value)))}]"
        case dict():
            items = cast(dict[str, Any], value).items()
            return f"{{{', '.join(f'{_python(name)}: {_python(item)}' for name, item in items)}}}"
        case _:
            return str(value)
