"""Several streams as one, and work that ends when its client goes.

It knows async generators and ASGI's `receive`; neither models nor JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TypeVar

from starlette.types import Receive

T = TypeVar("T")

# Slow readers hold their model back after this many events, not after a full memory.
_AHEAD = 64


class ClientGone(Exception):
    """The client closed the connection before the answer was complete."""


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncGenerator[None]:
    """Cancels the block, wherever it waits, as soon as the client goes; then raises `ClientGone`.

    The request's body must have been read. `asyncio.timeout` does the cancelling: it alone tells
    its own cancellation from one that came from outside.
    """
    loop = asyncio.get_running_loop()
    gone = False

    async def watch(deadline: asyncio.Timeout) -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        deadline.reschedule(loop.time())

    try:
        async with asyncio.timeout(None) as deadline:
            watcher = asyncio.create_task(watch(deadline))
            try:
                yield
            finally:
                watcher.cancel()
                with suppress(asyncio.CancelledError):
                    await watcher
    except TimeoutError:
        if gone:
            raise ClientGone from None
        raise


async def merge(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """(index, event) of all streams, as they come. An error in one ends all; so does closing."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as stream:
            async for event in stream:
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue(_AHEAD)

    async def pump(index: int, stream: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(stream):
                async for event in stream:
                    await queue.put((index, event))
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    pumps = [asyncio.create_task(pump(index, stream)) for index, stream in enumerate(streams)]
    try:
        ended = 0
        while ended < len(streams):
            item = await queue.get()
            if item is None:
                ended += 1
            elif isinstance(item, Exception):
                raise item
            else:
                yield item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
