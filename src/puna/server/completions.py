"""POST .../chat/completions: the walk of one request, from its bytes to the last of its answer's.

It knows the order of things: read, check, find the model, wait for the first event, answer. What a
field means stands in request.py, what an answer looks like in answer.py.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from puna.chat import ChatEvent, Finished, Image
from puna.errors import EngineFailed, InvalidValue, Overloaded, PunaError, Unsupported
from puna.server.answer import Choice, Chunks, Head, frame, whole
from puna.server.body import parse_json, read_body
from puna.server.errors import SlowBody, body_of, unexpected
from puna.server.images import Images
from puna.server.metrics import Metrics
from puna.server.names import Models, Served
from puna.server.node import Node
from puna.server.request import Completion, Extras, read_completion
from puna.server.respond import json_response
from puna.server.streams import merge, while_connected

# A place in the queue is held meanwhile.
BODY_SECONDS = 120

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream"),  # and no charset: some readers compare the whole
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # or nginx hands the stream over at its end
]


class Completions:
    """The endpoint, an ASGI app: the stream's end must be broken by hand where it fails."""

    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        *,
        images: Callable[[], Images],
        max_body_bytes: int,
        max_queue: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._models = models
        self._metrics = metrics
        self._images = images
        self._max_body_bytes = max_body_bytes
        self._max_queue = max_queue
        self._clock = clock
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        request = Request(scope, receive)
        with self._place(1):
            # In a thread, as all that may take long: the loop belongs to the other requests.
            body = Node(await asyncio.to_thread(parse_json, await self._read(request)))
            served = self._models.find(request.path_params.get("model") or body.string("model"))
            async with while_connected(receive):
                completion = await read_completion(
                    body, load_image=self._images().load, extras=_extras(request)
                )
                _check_card(completion, served, self._models)
                with self._place(completion.n - 1):
                    await self._answer(completion, served, scope, receive, send, started)

    async def _read(self, request: Request) -> bytes:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await read_body(
                    request.stream(), limit=self._max_body_bytes, headers=dict(request.headers)
                )
        except TimeoutError:
            raise SlowBody(
                f"The request body did not arrive within {BODY_SECONDS} seconds."
            ) from None

    async def _answer(
        self,
        completion: Completion,
        served: Served,
        scope: Scope,
        receive: Receive,
        send: Send,
        started: float,
    ) -> None:
        head = Head(f"chatcmpl-{uuid.uuid4().hex}", int(self._clock()), served.name)
        streams = [served.model.stream(request) for request in completion.requests()]
        async with aclosing(self._counted(merge(streams), served, started)) as events:
            # What is wrong shows before the first event, while there still is a status to say it.
            first = await anext(events, None)
            if first is None:
                raise EngineFailed("The model gave no answer at all.")
            if completion.stream:
                await _stream(first, events, completion, head, scope, send)
                return
            choices = [Choice() for _ in range(completion.n)]
            choices[first[0]].add(first[1])
            async for index, event in events:
                choices[index].add(event)
        logprobs = completion.request.sampling.logprobs
        answer = whole(head, choices, logprobs=logprobs, steps=completion.steps)
        await json_response(answer)(scope, receive, send)

    async def _counted(
        self, events: AsyncGenerator[tuple[int, ChatEvent], None], served: Served, started: float
    ) -> AsyncGenerator[tuple[int, ChatEvent], None]:
        waiting = True
        async with aclosing(events):
            async for index, event in events:
                if waiting:
                    self._metrics.first_event(served.name, time.monotonic() - started)
                    waiting = False
                if isinstance(event, Finished):
                    self._metrics.used(served.name, event.usage)
                yield index, event

    @contextmanager
    def _place(self, choices: int) -> Generator[None]:
        """A place in the queue for each choice; raises `Overloaded` where there is none."""
        if self._in_flight + choices > self._max_queue:
            raise Overloaded(
                f"Puna is busy: {self._in_flight} answers wait or run and at most "
                f"{self._max_queue} may. Please wait 2 seconds before retrying.",
                retry_after=2,
            )
        self._in_flight += choices
        self._metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= choices
            self._metrics.in_flight.set(self._in_flight)


async def _stream(
    first: tuple[int, ChatEvent],
    events: AsyncGenerator[tuple[int, ChatEvent], None],
    completion: Completion,
    head: Head,
    scope: Scope,
    send: Send,
) -> None:
    """Headers, chunks, `[DONE]`; after a failure an error event and no end of the body at all.

    openai raises on the event; azure-ai-inference skips it, so the connection must break too: the
    server breaks it when an app leaves its body unfinished. Raises what the model raised.
    """
    chunks = Chunks(
        head,
        n=completion.n,
        include_usage=completion.include_usage,
        steps=completion.steps,
    )
    await send({"type": "http.response.start", "status": 200, "headers": list(STREAM_HEADERS)})

    async def write(data: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": more})

    try:
        await write(b"".join((*chunks.opening(), *chunks.event(*first))))
        async for index, event in events:
            data = b"".join(chunks.event(index, event))
            if data:
                await write(data)
        end = b"".join(chunks.closing())
    except Exception as fault:
        error = fault if isinstance(fault, PunaError) else unexpected()
        await write(frame(body_of(error, path=scope["path"])))
        raise
    await write(end, more=False)


def _extras(request: Request) -> Extras:
    """`extra-parameters`; 1.0.0b1 of the SDK called it `unknown-parameters`."""
    headers = request.headers
    value = headers.get("extra-parameters") or headers.get("unknown-parameters") or "error"
    known = value.strip().lower().replace("_", "-")
    if known not in ("error", "drop", "pass-through"):
        raise InvalidValue(
            f'extra-parameters: expected "error", "drop" or "pass-through", got "{value[:40]}".',
            param="extra-parameters",
        )
    return known


def _check_card(completion: Completion, served: Served, models: Models) -> None:
    """What a card already excludes is refused here, where the field's name is known."""
    card = served.model.card
    if completion.request.tools and not card.tools:
        raise Unsupported(f"tools: {served.name} was not made to call tools.", param="tools")
    if "image" in card.modalities:
        return
    for i, message in enumerate(completion.request.messages):
        for j, part in enumerate(message.content):
            if isinstance(part, Image):
                seeing = [one.name for one in models.served if "image" in one.model.card.modalities]
                raise InvalidValue(
                    f"messages[{i}].content[{j}]: {served.name} takes text only; "
                    + (f"images go to: {', '.join(seeing)}." if seeing else "no model here sees."),
                    param=f"messages[{i}].content[{j}]",
                )
