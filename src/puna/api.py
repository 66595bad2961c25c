"""`import puna`: a model by name, and conversations with it, whole or streamed, sync and async.

It knows what can be opened (a path, a catalog name, an address) and no more of models than
`ChatModel` says. The async methods are the real ones; the sync ones run them on a thread.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast, get_args

from puna.chat import (
    ChatEvent,
    ChatModel,
    ChatRequest,
    Image,
    Message,
    ModelCard,
    Reply,
    Role,
    Sampling,
    Text,
    TextDelta,
    ToolCall,
    ToolSpec,
    collect,
)
from puna.errors import InvalidValue, StartupError
from puna.loopthread import LoopThread
from puna.tools.tool import Tool

if TYPE_CHECKING:
    from puna.tools.approvals import Ask

MessageLike: TypeAlias = Message | Mapping[str, Any]
Conversation: TypeAlias = str | Sequence[MessageLike]


def load(
    name: str = "cria-text",
    *,
    tools: Sequence[Tool | Callable[..., Any] | str] = (),
    approve: Callable[[Tool, ToolCall], bool] | None = None,
    **options: Any,
) -> Model:
    """A model to talk to.

    `name` is a path (an HF or Meta folder, a GGUF file), a catalog name (`puna models` lists them),
    an embedded model, or the http address of a server. `options` are settings: `device="cpu"`,
    `dtype="bfloat16"`, `max_context=4096`, `kv_memory=2**30` ...

    `tools` run here when the model calls them: functions with `@puna.tool`, and names, as `puna
    serve --tools` takes them. Those that are not `read_only` need `approve`, which is asked before
    each call (on a thread of its own). Raises `StartupError`.
    """
    from puna.opening import open_model, settings_from

    settings = settings_from(options)
    if not tools:
        return Model(open_model(name, settings))
    from puna.opening import close, with_tools
    from puna.tools.function import in_thread, tool
    from puna.tools.open import Toolbox, open_tools

    def ask_with(asked: Callable[[Tool, ToolCall], bool]) -> Ask:
        async def ask(tool: Tool, call: ToolCall) -> bool:
            return await in_thread(lambda: asked(tool, call))

        return ask

    names = [each for each in tools if isinstance(each, str)]
    box = open_tools(names, settings) if names else Toolbox(LoopThread("puna-tools"), {})
    try:
        for each in tools:
            if not isinstance(each, str):
                box.add(each if isinstance(each, Tool) else tool(each))
        for each in box.tools:
            if approve is None and not each.read_only:
                raise StartupError(
                    f"{each.name} may change things: mark it read_only=True if it does not, or "
                    "give approve=, a function that is asked before each call"
                )
        model = open_model(name, settings)
    except BaseException:
        box.close()
        raise
    loop = with_tools(
        model, box, box.approvals({}, ask_with(approve) if approve else None), settings
    )
    return Model(loop, close=lambda: (loop.close(), box.close(), close(model)))


def image(source: str | Path | bytes) -> Image:
    """An image for a message: the path of a file, or its bytes. Raises OSError."""
    return Image(source if isinstance(source, bytes) else Path(source).read_bytes())


class Model:
    """A `ChatModel` with the manners of a library: `model.chat("Hello").text`.

    A conversation is a string, or a list of messages: `{"role": "user", "content": "Hello"}`, where
    content may be a list of strings and images (`puna.image("dog.jpg")`). `sampling` takes the
    fields of `Sampling`: temperature, top_p, seed, max_tokens, stop ... Raises `RequestError`.
    """

    def __init__(self, model: ChatModel, *, close: Callable[[], object] | None = None) -> None:
        self._model = model
        self._close = close
        self._thread = LoopThread()

    @property
    def card(self) -> ModelCard:
        return self._model.card

    def close(self) -> None:
        """Give the memory back; answers that run end with an error."""
        from puna.opening import close

        if self._close is not None:
            self._close()
        else:
            close(self._model)
        self._thread.close()

    def chat(
        self, messages: Conversation, *, tools: Sequence[ToolSpec] = (), **sampling: Any
    ) -> Reply:
        """The whole answer: its `text`, `tool_calls`, `reason` and `usage`."""
        return self._thread.run(self.achat(messages, tools=tools, **sampling))

    def stream(
        self, messages: Conversation, *, tools: Sequence[ToolSpec] = (), **sampling: Any
    ) -> Iterator[str]:
        """The answer's text, piece by piece."""
        for event in self.events(messages, tools=tools, **sampling):
            if isinstance(event, TextDelta):
                yield event.text

    def events(
        self, messages: Conversation, *, tools: Sequence[ToolSpec] = (), **sampling: Any
    ) -> Generator[ChatEvent]:
        """The answer as events: text, tool calls, steps of tools, and last `Finished`."""
        return self._thread.iterate(self.aevents(messages, tools=tools, **sampling))

    async def achat(
        self, messages: Conversation, *, tools: Sequence[ToolSpec] = (), **sampling: Any
    ) -> Reply:
        """`chat` for async programs."""
        return await collect(self.aevents(messages, tools=tools, **sampling))

    async def astream(
        self, messages: Conversation, *, tools: Sequence[ToolSpec] = (), **sampling: Any
    ) -> AsyncGenerator[str, None]:
        """`stream` for async programs."""
        async for event in self.aevents(messages, tools=tools, **sampling):
            if isinstance(event, TextDelta):
                yield event.text

    def aevents(
        self, messages: Conversation, *, tools: Sequence[ToolSpec] = (), **sampling: Any
    ) -> AsyncGenerator[ChatEvent, None]:
        """`events` for async programs."""
        return self._model.stream(
            ChatRequest(
                messages=conversation(messages),
                tools=tuple(tools),
                sampling=sampling_from(sampling),
            )
        )


def conversation(messages: Conversation) -> tuple[Message, ...]:
    """What callers write as what models read. Raises `InvalidValue`."""
    if isinstance(messages, str):
        return (Message("user", (Text(messages),)),)
    if not messages:
        raise InvalidValue("messages is empty; expected at least one message", param="messages")
    return tuple(_message(each, f"messages[{index}]") for index, each in enumerate(messages))


def sampling_from(fields: Mapping[str, Any]) -> Sampling:
    """`Sampling` from keyword arguments. Raises `InvalidValue` naming the one that is wrong."""
    known = Sampling.__dataclass_fields__
    for name in fields:
        if name not in known:
            raise InvalidValue(
                f"{name} is no sampling parameter; known are {', '.join(known)}", param=name
            )
    fields = {name: value for name, value in fields.items() if value is not None}
    if isinstance(fields.get("stop"), str):
        fields = {**fields, "stop": (fields["stop"],)}
    if "stop" in fields:
        fields = {**fields, "stop": tuple(fields["stop"])}
    for name, (low, high, kind) in _RANGES.items():
        value = fields.get(name, low)
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            wanted = "a whole number" if kind is int else "a number"
            span = f"from {low} to {high}" if high != _ANY else f"of at least {low}"
            raise InvalidValue(f"{name} is {value!r}; expected {wanted} {span}", param=name)
    return Sampling(**fields)


_ANY = 2**63 - 1
_RANGES: dict[str, tuple[float, float, Any]] = {
    "temperature": (0, 2, int | float),
    "top_p": (0, 1, int | float),
    "top_k": (1, _ANY, int),
    "max_tokens": (1, _ANY, int),
    "seed": (-_ANY - 1, _ANY, int),
    "frequency_penalty": (-2, 2, int | float),
    "presence_penalty": (-2, 2, int | float),
    "top_logprobs": (0, 20, int),
}


def _message(each: MessageLike, where: str) -> Message:
    if isinstance(each, Message):
        return each
    if not isinstance(each, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidValue(
            f'{where} is a {type(each).__name__}; expected a dict like {{"role": "user", '
            '"content": "Hello"} or a puna.Message',
            param=where,
        )
    known = ("role", "content", "tool_calls", "tool_call_id")
    for name in each:
        if name not in known:
            raise InvalidValue(
                f"{where}.{name} is unknown; known are {', '.join(known)}", param=where
            )
    role = each.get("role")
    if role not in get_args(Role):
        raise InvalidValue(
            f"{where}.role is {role!r}; expected one of {', '.join(get_args(Role))}",
            param=f"{where}.role",
        )
    content = each.get("content")
    if content is not None and not isinstance(content, str | Text | Image | list | tuple):
        raise InvalidValue(
            f"{where}.content is a {type(content).__name__}; expected text, or a list of strings "
            "and images",
            param=f"{where}.content",
        )
    parts = cast("Sequence[object]", content if isinstance(content, list | tuple) else [content])
    return Message(
        role=cast("Role", role),
        content=tuple(_part(part, f"{where}.content") for part in parts if part is not None),
        tool_calls=tuple(each.get("tool_calls") or ()),
        tool_call_id=each.get("tool_call_id"),
    )


def _part(part: object, where: str) -> Text | Image:
    if isinstance(part, str):
        return Text(part)
    if isinstance(part, Text | Image):
        return part
    raise InvalidValue(
        f"{where} holds a {type(part).__name__}; expected strings and images (puna.image(path))",
        param=where,
    )
