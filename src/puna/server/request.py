"""From a request's JSON to a `ChatRequest`: every field checked, every refusal named.

It knows the shapes that azure-ai-inference, openai and gh models send, and neither HTTP nor which
model will answer. What a model cannot honour it refuses itself; here nothing is dropped in silence.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from puna.chat import (
    ChatRequest,
    Image,
    JsonFormat,
    Message,
    NamedTool,
    Part,
    Sampling,
    Text,
    ToolCall,
    ToolChoice,
    ToolSpec,
)
from puna.errors import InvalidValue, Unsupported
from puna.server.node import MAX_ITEMS, Node, shown

MAX_CHOICES = 8
MAX_STOPS = 16
MAX_TOOLS = 128
MAX_TOKEN_ID = 2**31 - 1

LoadImage: TypeAlias = Callable[[str, str], Awaitable[bytes]]
"""(url, name of the field) -> the bytes of the image file; raises `InvalidImage`, also where it is
one too many."""

Extras: TypeAlias = Literal["error", "drop", "pass-through"]

# Of no effect on the answer: who asks, how it is billed and where it is cached.
IGNORED = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention",
)  # fmt: skip
REFUSED = {
    "functions": "it was replaced by `tools`",
    "function_call": "it was replaced by `tool_choice`",
    "audio": "the Llama herd hears and speaks no audio",
    "prediction": "predicted output is not served",
    "reasoning_effort": "these models do not reason in a separate phase",
    "verbosity": "ask for a short or long answer in the messages instead",
    "web_search_options": "the server does not search; offer a tool in `tools` instead",
}
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


@dataclass(frozen=True, slots=True)
class Completion:
    """What was asked of the server: `n` answers to `request`, whole or streamed."""

    request: ChatRequest
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    steps: bool = False
    """Whether to say what the server's own tools did."""

    def requests(self) -> list[ChatRequest]:
        """One request a choice; seeds count up, or the choices would all be the same."""
        sampling = self.request.sampling
        if sampling.seed is None:
            return [self.request] * self.n
        return [
            replace(
                self.request,
                # stays within 64 bits, as the seed itself does
                sampling=replace(sampling, seed=(sampling.seed + i + 2**63) % 2**64 - 2**63),
            )
            for i in range(self.n)
        ]


async def read_completion(
    body: Node, *, load_image: LoadImage, extras: Extras = "error"
) -> Completion:
    """Raises `InvalidValue` and its kin, with the field's name in the caller's own spelling.

    `extras` is what to do with fields that nobody knows; a field that means something which Puna
    does not do is refused in any case.
    """
    body.ignore("model", *IGNORED)
    messages = await _messages(body, load_image)
    tools = _tools(body)
    request = ChatRequest(
        messages=messages,
        tools=tools,
        tool_choice=_tool_choice(body, tools),
        parallel_tool_calls=body.boolean("parallel_tool_calls") is not False,
        response_format=_response_format(body),
        sampling=_sampling(body),
    )
    stream = body.boolean("stream") or False
    completion = Completion(
        request=request,
        n=body.integer("n", 1, MAX_CHOICES) or 1,
        stream=stream,
        include_usage=_include_usage(body, stream),
        steps=_steps(body, stream),
    )
    modalities = body.array("modalities")
    if modalities not in (None, ["text"]):
        raise Unsupported('modalities: only ["text"] can be answered.', param="modalities")
    for name, reason in REFUSED.items():
        if name in body:
            raise Unsupported(f"{name}: not supported here: {reason}.", param=name)
    unknown = body.unread()
    if unknown and extras != "drop":
        name = unknown[0] if len(unknown[0]) <= 100 else f"{unknown[0][:99]}…"
        raise InvalidValue(
            f"{name}: unknown parameter. To have unknown parameters ignored, send the header "
            "`extra-parameters: drop`.",
            param=name,
        )
    return completion


def _sampling(body: Node) -> Sampling:
    max_tokens = body.integer("max_tokens", 1)
    max_completion_tokens = body.integer("max_completion_tokens", 1)
    if max_tokens and max_completion_tokens and max_tokens != max_completion_tokens:
        raise InvalidValue(
            f"max_tokens and max_completion_tokens mean the same, but came as {max_tokens} and "
            f"{max_completion_tokens}: send one of them.",
            param="max_tokens",
        )
    logprobs = body.boolean("logprobs") or False
    top_logprobs = body.integer("top_logprobs", 0, 20) or 0
    if top_logprobs and not logprobs:
        raise InvalidValue(
            f"top_logprobs: {top_logprobs} were asked for without `logprobs: true`.",
            param="top_logprobs",
        )
    return Sampling(
        temperature=body.number("temperature", 0, 2),
        top_p=body.number("top_p", 0, 1),
        top_k=body.integer("top_k", 1, MAX_TOKEN_ID),
        seed=body.integer("seed", -(2**63), 2**63 - 1),
        max_tokens=max_completion_tokens or max_tokens,
        stop=_stop(body),
        frequency_penalty=body.number("frequency_penalty", -2, 2) or 0.0,
        presence_penalty=body.number("presence_penalty", -2, 2) or 0.0,
        logit_bias=_logit_bias(body),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
    )


def _stop(body: Node) -> tuple[str, ...]:
    value = body.raw("stop")
    stops = [value] if isinstance(value, str) else body.array("stop") or []
    if len(stops) > MAX_STOPS:
        body.wrong("stop", f"a string or a list of at most {MAX_STOPS} strings")
    for stop in stops:
        if not (isinstance(stop, str) and stop):
            raise InvalidValue(
                f"stop: expected strings that are not empty, got {shown(stop)}.", param="stop"
            )
    return tuple(stops)


def _logit_bias(body: Node) -> dict[int, float]:
    node = body.object("logit_bias")
    if node is None:
        return {}
    biases: dict[int, float] = {}
    keys = node.keys()
    if len(keys) > MAX_ITEMS:
        body.wrong("logit_bias", f"at most {MAX_ITEMS} token ids")
    for key in keys:
        if not (key.isascii() and key.isdigit() and len(key) < 11 and int(key) <= MAX_TOKEN_ID):
            raise InvalidValue(
                f"logit_bias: expected token ids as keys, got {shown(key)}.", param="logit_bias"
            )
        biases[int(key)] = node.number(key, -100, 100) or 0.0
    return biases


def _include_usage(body: Node, stream: bool) -> bool:
    options = body.object("stream_options")
    if options is None:
        return False
    if not stream:
        raise InvalidValue(
            "stream_options: only allowed together with `stream: true`.", param="stream_options"
        )
    options.ignore("include_obfuscation")
    return options.boolean("include_usage") or False


def _steps(body: Node, stream: bool) -> bool:
    """`"puna": {"steps": true}`. A stream tells the steps only to who asks: others read its chunks
    for text alone."""
    node = body.object("puna")
    asked = node.boolean("steps") if node is not None else None
    return not stream if asked is None else asked


def _response_format(body: Node) -> JsonFormat | None:
    node = body.object("response_format")
    if node is None:
        return None
    kinds = ("text", "json_object", "json_schema")
    kind = node.one_of("type", *kinds)
    if kind is None:
        node.wrong("type", " or ".join(f'"{kind}"' for kind in kinds))
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonFormat()
    schema = node.required("json_schema", node.object, "an object with a name and a schema")
    schema.ignore("description")
    return JsonFormat(
        schema=schema.required("schema", schema.mapping, "an object (a JSON schema)"),
        name=schema.required("name", schema.string, "a string"),
        strict=schema.boolean("strict") or False,
    )


def _tools(body: Node) -> tuple[ToolSpec, ...]:
    nodes = body.objects("tools") or []
    if len(nodes) > MAX_TOOLS:
        body.wrong("tools", f"at most {MAX_TOOLS} tools")
    tools: list[ToolSpec] = []
    for node in nodes:
        if node.one_of("type", "function") is None:
            node.wrong("type", '"function"')
        function = node.required("function", node.object, "an object with a name")
        name = function.required("name", function.string, "a string")
        if not _TOOL_NAME.fullmatch(name):
            function.wrong("name", "1 to 64 letters, digits, '_', '-' or '.'")
        if any(tool.name == name for tool in tools):
            function.wrong("name", "a name that no other tool has")
        tools.append(
            ToolSpec(
                name=name,
                description=function.string("description") or "",
                parameters=function.mapping("parameters") or {},
                strict=function.boolean("strict") or False,
            )
        )
    return tuple(tools)


def _tool_choice(body: Node, tools: tuple[ToolSpec, ...]) -> ToolChoice:
    value = body.raw("tool_choice")
    choice: ToolChoice
    if value is None:
        return "auto"
    if isinstance(value, str):
        if value not in ("auto", "none", "required"):
            body.wrong("tool_choice", '"auto", "none", "required" or a named function')
        choice = value
    else:
        node = body.required("tool_choice", body.object, "a string or an object")
        if node.one_of("type", "function") is None:
            node.wrong("type", '"function"')
        function = node.required("function", node.object, "an object with a name")
        choice = NamedTool(function.required("name", function.string, "a string"))
        if tools and all(tool.name != choice.name for tool in tools):
            function.wrong("name", "the name of one of the tools offered")
    if not tools and choice not in ("auto", "none"):
        raise InvalidValue(
            "tool_choice: a call is asked for, but the request offers no tools.",
            param="tool_choice",
        )
    return choice


async def _messages(body: Node, load_image: LoadImage) -> tuple[Message, ...]:
    nodes = body.required("messages", body.objects, "a list of messages")
    if not nodes:
        body.wrong("messages", "at least one message")
    messages: list[Message] = []
    known_calls: set[str] = set()
    for node in nodes:
        message = await _message(node, load_image)
        # A conversation comes with what other programs left on it: names, cache marks, citations.
        node.ignore_rest()
        if message.role == "tool" and message.tool_call_id not in known_calls:
            node.wrong("tool_call_id", "the id of a tool call in an assistant message before")
        known_calls.update(call.id for call in message.tool_calls)
        messages.append(message)
        await asyncio.sleep(0)  # other requests go on between the messages of a long one
    return tuple(messages)


async def _message(node: Node, load_image: LoadImage) -> Message:
    roles = ("system", "developer", "user", "assistant", "tool")
    role = node.required(
        "role", lambda key: node.one_of(key, *roles), " or ".join(f'"{role}"' for role in roles)
    )
    # Clients send an answer back whole; these fields of the past would have changed the answer.
    for gone in ("function_call", "audio"):
        if gone in node:
            raise Unsupported(
                f"{node.at(gone)}: not supported here; use `tool_calls`."
                if gone == "function_call"
                else f"{node.at(gone)}: the Llama herd hears and speaks no audio.",
                param=node.at(gone),
            )
    if role != "assistant" and "tool_calls" in node:
        raise InvalidValue(
            f'{node.at("tool_calls")}: only an "assistant" message has tool calls, '
            f'this one\'s role is "{role}".',
            param=node.at("tool_calls"),
        )
    match role:
        case "user":
            return Message("user", await _content(node, load_image))
        case "assistant":
            return Message(
                "assistant",
                _text_content(node, optional=True),
                tool_calls=tuple(_call(call) for call in node.objects("tool_calls") or ()),
            )
        case "tool":
            call_id = node.required("tool_call_id", node.string, "the id of the call it answers")
            return Message("tool", _text_content(node, optional=True), tool_call_id=call_id)
        case _:
            return Message("system", _text_content(node, optional=False))


def _call(node: Node) -> ToolCall:
    if node.one_of("type", "function") is None and "type" in node:
        node.wrong("type", '"function"')
    function = node.required("function", node.object, "an object with a name and arguments")
    arguments = function.raw("arguments")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    elif arguments is not None and not isinstance(arguments, str):
        function.wrong("arguments", "a string of JSON")
    return ToolCall(
        id=node.required("id", node.string, "a string"),
        name=function.required("name", function.string, "a string"),
        arguments=arguments if arguments and arguments.strip() else "{}",
    )


def _text_content(node: Node, *, optional: bool) -> tuple[Part, ...]:
    value = node.raw("content")
    if value is None and optional:
        return ()
    if isinstance(value, str):
        return (Text(value),) if value or not optional else ()
    expected = "a string or a list of text parts"
    if not isinstance(value, list):
        node.wrong("content", expected)
    return tuple(_text_part(part) for part in node.objects("content") or ())


def _text_part(part: Node) -> Text:
    kind = part.one_of("type", "text", "refusal")
    if kind is None:
        part.wrong("type", '"text"')
    return Text(part.required(kind, part.string, "a string"))


async def _content(node: Node, load_image: LoadImage) -> tuple[Part, ...]:
    value = node.raw("content")
    if isinstance(value, str):
        return (Text(value),)
    if not isinstance(value, list):
        node.wrong("content", "a string or a list of parts")
    parts: list[Part] = []
    for part in node.objects("content") or ():
        kind = part.string("type")
        if kind == "text":
            parts.append(Text(part.required("text", part.string, "a string")))
        elif kind == "image_url":
            image = part.required("image_url", part.object, "an object with a url")
            # A hint for hosts that bill by it: how many tiles an image gets is the model's affair.
            image.one_of("detail", "auto", "low", "high")
            url = image.required("url", image.string, "a string")
            parts.append(Image(await load_image(url, image.at("url"))))
        elif kind == "input_audio":
            raise Unsupported(
                f"{part.path}: the Llama herd hears no audio; send text or images.",
                param=f"{part.path}.input_audio",
            )
        else:
            part.wrong("type", '"text" or "image_url"')
    return tuple(parts)
