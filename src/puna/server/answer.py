"""From events to the JSON of an answer, whole or in chunks. Pure: no HTTP, no clock, no model.

It knows what readers of this wire trip over, and says beside each rule which.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from puna.chat import (
    ChatEvent,
    Finished,
    FinishReason,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolResult,
    ToolsChosen,
    ToolStarted,
    Usage,
)
from puna.errors import EngineFailed

# gh models cannot read a line of 64 KiB. Escaped, a character has at most 12 bytes, and a token
# with 20 alternatives at most 12 KiB.
PIECE = 4096
LOGPROBS = 4

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Head:
    """What is the same throughout an answer."""

    id: str
    created: int
    model: str


@dataclass(slots=True)
class Choice:
    """One choice while its events come in."""

    text: list[str] = field(default_factory=list[str])
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    finished: Finished | None = None

    def add(self, event: ChatEvent) -> None:
        match event:
            case TextDelta():
                self.text.append(event.text)
                self.logprobs.extend(event.logprobs)
            case ToolCall():
                self.calls.append(event)
            case ToolsChosen() | ToolStarted() | ToolResult():
                pass
            case Finished():
                self.finished = event


def whole(head: Head, choices: Sequence[Choice], *, logprobs: bool = False) -> dict[str, Any]:
    """`chat.completion`."""
    usages: list[Usage] = []
    answered: list[dict[str, Any]] = []
    for index, choice in enumerate(choices):
        finished = complete(choice.finished)
        usages.append(finished.usage)
        text = "".join(choice.text)
        # Programs print `content`: it is a string wherever there are no calls.
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if choice.calls:
            message["content"] = text or None
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": _function(call)}
                for call in choice.calls
            ]
        answered.append(
            {
                "index": index,
                "message": message,
                "logprobs": logprobs_json(choice.logprobs) if logprobs else None,
                "finish_reason": finished.reason,
            }
        )
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": answered,
        "usage": usage_json(usages),
    }


class Chunks:
    """`chat.completion.chunk`s for a stream of `n` choices, framed as server-sent events.

    Only `data: ` lines, each followed by an empty one: azure-ai-inference raises on any other.
    """

    def __init__(self, head: Head, *, n: int = 1, include_usage: bool = False) -> None:
        self._head = head
        self._include_usage = include_usage
        self._calls = [0] * n
        self._finished: list[Finished | None] = [None] * n

    def opening(self) -> Iterator[bytes]:
        """The role, once a choice and before anything else."""
        for index in range(len(self._calls)):
            yield self._chunk(index, {"role": "assistant", "content": ""})

    def event(self, index: int, event: ChatEvent) -> Iterator[bytes]:
        match event:
            case TextDelta():
                yield from self._text(index, event)
            case ToolCall():
                yield from self._call(index, event)
            case ToolsChosen() | ToolStarted() | ToolResult():
                pass
            case Finished():
                self._finished[index] = event
                yield self._chunk(index, {}, reason=event.reason)

    def closing(self) -> Iterator[bytes]:
        """Usage where it was asked for, and `[DONE]`, without which gh models reports a loss."""
        usages = [complete(finished).usage for finished in self._finished]
        if self._include_usage:
            yield frame({**self._base(), "choices": [], "usage": usage_json(usages)})
        yield DONE

    def _text(self, index: int, event: TextDelta) -> Iterator[bytes]:
        pieces = [event.text[i : i + PIECE] for i in range(0, len(event.text), PIECE)]
        groups = [event.logprobs[i : i + LOGPROBS] for i in range(0, len(event.logprobs), LOGPROBS)]
        for i in range(max(len(pieces), len(groups))):
            piece = pieces[i] if i < len(pieces) else ""
            yield self._chunk(index, {"content": piece}, groups[i] if i < len(groups) else ())

    def _call(self, index: int, call: ToolCall) -> Iterator[bytes]:
        number = self._calls[index]
        self._calls[index] += 1
        function = {"name": call.name, "arguments": ""}
        first = {"index": number, "id": call.id, "type": "function", "function": function}
        yield self._chunk(index, {"tool_calls": [first]})
        arguments = _function(call)["arguments"]
        for i in range(0, len(arguments), PIECE):
            piece = {"index": number, "function": {"arguments": arguments[i : i + PIECE]}}
            yield self._chunk(index, {"tool_calls": [piece]})

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: Sequence[TokenLogprob] = (),
        reason: FinishReason | None = None,
    ) -> bytes:
        choice: dict[str, Any] = {"index": index, "delta": delta}
        if logprobs:
            choice["logprobs"] = logprobs_json(logprobs)
        choice["finish_reason"] = reason
        chunk = {**self._base(), "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return frame(chunk)

    def _base(self) -> dict[str, Any]:
        return {
            "id": self._head.id,
            "object": "chat.completion.chunk",
            "created": self._head.created,
            "model": self._head.model,
        }


def frame(value: dict[str, Any]) -> bytes:
    """One server-sent event. All ASCII: no reader can split a character or a line inside it."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n\n"


def usage_json(usages: Sequence[Usage]) -> dict[str, Any]:
    """The prompt counts once, however many choices answer it."""
    prompt = usages[0].prompt_tokens
    completion = sum(usage.completion_tokens for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usages[0].cached_tokens},
    }


def logprobs_json(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {
        "content": [
            {**_token(token), "top_logprobs": [_token(other) for other in token.top]}
            for token in tokens
        ]
    }


def complete(finished: Finished | None) -> Finished:
    if finished is None:
        raise EngineFailed("The model's answer broke off without an end.")
    return finished


def _token(token: TokenLogprob) -> dict[str, Any]:
    # JSON has no infinity; -9999.0 is what OpenAI writes for a token that cannot come.
    logprob = max(token.logprob, -9999.0)
    return {"token": token.token, "logprob": logprob, "bytes": list(token.bytes)}


def _function(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments or "{}"}
