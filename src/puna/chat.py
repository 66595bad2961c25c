"""The vocabulary of a conversation: messages, requests, events, and `ChatModel`, which joins them.

It knows no tokens, no tensors, no HTTP and no wire format. Whatever answers is a `ChatModel`: a
local Llama, a remote server, a script for tests; and a wrapper is a `ChatModel` that holds another.
Every value here is frozen: a request can be kept, compared, retried and sent twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """The bytes of an image file (PNG, JPEG, WebP, GIF ...): decoded by the model that looks."""

    data: bytes = field(repr=False)


Part: TypeAlias = Text | Image


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model made. `arguments` is JSON text of an object, `{}` when empty.

    As an event it is whole: half a call is never an event.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `tool_calls` belongs to the assistant, `tool_call_id` to a tool's result."""

    role: Role
    content: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, Text))


def message(role: Role, *parts: str | Part, **fields: Any) -> Message:
    """A `Message` from plain strings and parts: `message("user", "What is this?", Image(data))`."""
    content = tuple(Text(part) if isinstance(part, str) else part for part in parts)
    return Message(role=role, content=content, **fields)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function offered to the model. `parameters` is a JSON schema of an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    strict: bool = False


@dataclass(frozen=True, slots=True)
class NamedTool:
    """`tool_choice`: this function and no other."""

    name: str


ToolChoice: TypeAlias = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """`response_format`: any JSON object, or one that fits `schema`."""

    schema: Mapping[str, Any] | None = None
    name: str = "response"
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens. `None` means: as the checkpoint's `generation_config.json` says.

    temperature 0..2 (0 = greedy), top_p 0..1, top_k >= 1, penalties -2..2, top_logprobs 0..20;
    `max_tokens` counts new tokens; `logit_bias` maps token ids to -100..100, added to the logits.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    logprobs: bool = False
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class ChatRequest:
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    response_format: JsonFormat | None = None
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token as text and as bytes (maybe half a character), and its natural log probability."""

    token: str
    bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """In tokens. `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer: whole characters, and nothing that a stop string may yet eat.

    `logprobs` holds the tokens behind the piece when they were asked for; `text` may then be "".
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file that a tool made: a plot, a table."""

    name: str
    media_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToolsChosen:
    """A tool loop has more tools than fit well: those that it offers for this turn, and the others.

    Told once, before the answer, and only where something was left out.
    """

    offered: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool loop runs this call itself. A `ToolCall`, in contrast, is for the caller to run.

    All calls of a turn are told before the first of them runs: who follows may decide in between.
    """

    call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the tool of a `ToolStarted` gave back. `source`: what answered."""

    call: ToolCall
    content: str
    is_error: bool = False
    files: tuple[File, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every stream, exactly once."""

    reason: FinishReason
    usage: Usage


ChatEvent: TypeAlias = TextDelta | ToolCall | ToolsChosen | ToolStarted | ToolResult | Finished


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a catalog says of a model. Token limits; `modalities` of the input."""

    name: str
    publisher: str = "meta"
    summary: str = ""
    context_length: int = 131072
    max_output_tokens: int = 4096
    modalities: tuple[Literal["text", "image"], ...] = ("text",)
    tools: bool = True
    created: int = 0


@runtime_checkable
class ChatModel(Protocol):
    """Whatever answers a conversation."""

    @property
    def card(self) -> ModelCard:
        """What this model is and takes."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Answer `request`, event by event; the last is `Finished`.

        A request that cannot be answered raises a `RequestError` (or `Overloaded`) before the first
        event. Closing the generator cancels the work within one engine step.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer: what `collect` makes of a stream. `steps`: what a tool loop ran for it."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    reason: FinishReason
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] = ()
    steps: tuple[ToolResult, ...] = ()

    @property
    def message(self) -> Message:
        """This answer as a turn of the conversation."""
        content = (Text(self.text),) if self.text else ()
        return Message(role="assistant", content=content, tool_calls=self.tool_calls)


async def collect(stream: AsyncGenerator[ChatEvent, None]) -> Reply:
    """Run a stream to its end and join it."""
    texts: list[str] = []
    calls: list[ToolCall] = []
    logprobs: list[TokenLogprob] = []
    steps: list[ToolResult] = []
    async for event in stream:
        match event:
            case TextDelta():
                texts.append(event.text)
                logprobs.extend(event.logprobs)
            case ToolCall():
                calls.append(event)
            case ToolResult():
                steps.append(event)
            case ToolStarted() | ToolsChosen():
                pass
            case Finished():
                return Reply(
                    text="".join(texts),
                    tool_calls=tuple(calls),
                    reason=event.reason,
                    usage=event.usage,
                    logprobs=tuple(logprobs),
                    steps=tuple(steps),
                )
    raise RuntimeError("a ChatModel's stream ended without Finished")


def request(messages: Sequence[Message], **fields: Any) -> ChatRequest:
    """A `ChatRequest` from a list of messages."""
    return ChatRequest(messages=tuple(messages), **fields)
