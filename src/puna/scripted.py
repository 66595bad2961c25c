"""`ScriptedModel`: a `ChatModel` whose replies you wrote, for tests, examples and documentation.

It computes nothing and knows no tokens: its "tokens" are the pieces into which it cuts a text, and
its usage counts words of the prompt and pieces of the answer. Nothing binds it, neither tools nor
`tool_choice` nor `response_format`: what it says is what the script says.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TypeAlias

from puna.chat import ChatEvent, ChatRequest, Finished, ModelCard, TextDelta, ToolCall, Usage
from puna.errors import PunaError

Reply: TypeAlias = "str | PunaError | Sequence[ChatEvent | PunaError]"
"""A text; an error to raise; or events, among which an error breaks the stream."""

Script: TypeAlias = "Reply | Callable[[ChatRequest], Reply]"


class ScriptedModel:
    """Answers the first request with the first script, and so on; the last answers all further.

    `delay` seconds pass before each event. `requests` holds what was asked; `running` counts the
    streams that are open; `cancelled` those that were closed before their end.
    """

    def __init__(
        self,
        *scripts: Script,
        name: str = "scripted",
        card: ModelCard | None = None,
        delay: float = 0.0,
    ) -> None:
        if not scripts:
            raise ValueError("ScriptedModel needs at least one reply")
        self._scripts = scripts
        self._card = card or ModelCard(
            name=name,
            publisher="puna",
            summary="Replies from a script.",
            modalities=("text", "image"),
        )
        self._delay = delay
        self.requests: list[ChatRequest] = []
        self.running = 0
        self.cancelled = 0

    @property
    def card(self) -> ModelCard:
        return self._card

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        script = self._scripts[min(len(self.requests), len(self._scripts) - 1)]
        self.requests.append(request)
        reply = script(request) if callable(script) else script
        finished = False
        self.running += 1
        try:
            for event in _events(reply, request):
                await asyncio.sleep(self._delay)
                if isinstance(event, PunaError):
                    finished = True
                    raise event
                # Told before it is handed over: nobody asks for more after `Finished`.
                finished = isinstance(event, Finished)
                yield event
        finally:
            self.running -= 1
            self.cancelled += not finished


def _events(reply: Reply, request: ChatRequest) -> Sequence[ChatEvent | PunaError]:
    """`reply` as events, cut at `max_tokens` pieces, with `Finished` added where it is missing."""
    if isinstance(reply, PunaError):
        return (reply,)
    if isinstance(reply, str):
        events: list[ChatEvent | PunaError] = [
            TextDelta(piece) for piece in re.findall(r"\s*\S+|\s+$", reply)
        ]
    else:
        events = list(reply)
    if events and isinstance(events[-1], Finished | PunaError):
        return events
    limit = request.sampling.max_tokens
    cut = limit is not None and len(events) > limit
    events = events[:limit] if cut else events
    called = any(isinstance(event, ToolCall) for event in events)
    usage = Usage(
        prompt_tokens=sum(len(message.text.split()) for message in request.messages),
        completion_tokens=len(events),
    )
    reason = "length" if cut else "tool_calls" if called else "stop"
    return (*events, Finished(reason, usage))


def echo(request: ChatRequest) -> str:
    """A script that gives back the last message's text."""
    return request.messages[-1].text
