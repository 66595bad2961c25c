"""From events to the JSON of an answer, whole or in chunks. Pure: no HTTP, no clock, no model.

It knows what readers of this wire trip over, and says beside each rule which.
"""

from __future__ import annotations

import base64
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
    steps: list[ToolResult] = field(default_factory=list[ToolResult])
    chosen: ToolsChosen | None = None
    finished: Finished | None = None

    def add(self, event: ChatEvent) -> None:
        match event:
            case TextDelta():
                self.text.append(event.text)
                self.logprobs.extend(event.logprobs)
            case ToolCall():
                self.calls.append(event)
            case ToolResult():
                self.steps.append(event)
            case ToolsChosen():
                self.chosen = event
            case ToolStarted():
                pass
            case Finished():
                self.finished = event


def whole(
    head: Head, choices: Sequence[Choice], *, logprobs: bool = False, steps: bool = True
) -> dict[str, Any]:
    """`chat.completion`. `steps`: say in a field `puna` of each choice what the server's own tools
    did for it, if anything (beside `message`, for clients send that back with all that is in it).
    """
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
        answer: dict[str, Any] = {
            "index": index,
            "message": message,
            "logprobs": logprobs_json(choice.logprobs) if logprobs else None,
            "finish_reason": finished.reason,
        }
        if steps and (choice.steps or choice.chosen):
            done = [step_json(step.call, step) for step in choice.steps]
            answer["puna"] = {"steps": done, **(chosen_json(choice.chosen))}
        answered.append(answer)
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

    def __init__(
        self, head: Head, *, n: int = 1, include_usage: bool = False, steps: bool = False
    ) -> None:
        self._head = head
        self._steps = steps
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
            case ToolStarted() | ToolResult() | ToolsChosen():
                if self._steps:
                    yield self._step(index, event)
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

    def _step(self, index: int, event: ToolStarted | ToolResult | ToolsChosen) -> bytes:
        """In the choice's field `puna`: a step that begins, and again when it has its result."""
        match event:
            case ToolStarted():
                told = {"steps": [step_json(event.call)]}
            case ToolResult():
                told = {"steps": [step_json(event.call, event)]}
            case ToolsChosen():
                told = chosen_json(event)
        return self._chunk(index, {}, puna=told)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: Sequence[TokenLogprob] = (),
        reason: FinishReason | None = None,
        puna: dict[str, Any] | None = None,
    ) -> bytes:
        choice: dict[str, Any] = {"index": index, "delta": delta}
        if logprobs:
            choice["logprobs"] = logprobs_json(logprobs)
        choice["finish_reason"] = reason
        if puna is not None:
            choice["puna"] = puna
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


def step_json(call: ToolCall, result: ToolResult | None = None) -> dict[str, Any]:
    """A call that the server ran itself, and what came of it; without that where it has begun."""
    step: dict[str, Any] = {"id": call.id, **_function(call)}
    if result is not None:
        step |= {"content": result.content, "is_error": result.is_error, "source": result.source}
        step["files"] = [
            {
                "name": file.name,
                "media_type": file.media_type,
                "data": base64.b64encode(file.data).decode("ascii"),
            }
            for file in result.files
        ]
    return step


def chosen_json(chosen: ToolsChosen | None) -> dict[str, Any]:
    """Which of the server's tools the model was offered, where there were too many."""
    if chosen is None:
        return {}
    return {"tools": {"offered": list(chosen.offered), "left_out": list(chosen.left_out)}}


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
