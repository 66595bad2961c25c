"""`LoopThread`: an event loop on a thread of its own, for who has none, or needs one that stays.

It knows coroutines and threads, and nothing of what runs on it.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Sync callers need no event loop, nor mind one; what is bound to a loop finds it here again.

    The thread begins with the first call and ends with `close`, or when nobody holds this object.
    """

    def __init__(self, name: str = "puna-api") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], object] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Ctrl-C cancels it, and is raised once it has ended."""
        result, begin, cancel = self._prepared(work)
        try:  # before it begins: Ctrl-C may come at once
            begin()
            return result.result()
        except BaseException:
            cancel()
            wait([result])
            raise

    async def within(self, work: Coroutine[Any, Any, T]) -> T:
        """`run` from another loop. Cancelled, it too waits until `work` has ended."""
        result, begin, cancel = self._prepared(work)
        begin()
        ended = asyncio.wrap_future(result)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            cancel()
            await asyncio.wait([ended])
            if not ended.cancelled():
                ended.exception()  # is of no interest any more
            raise

    def later(self, seconds: float, do: Callable[[], object]) -> None:
        """Call `do` on the loop, in a while."""
        loop = self._running_loop()
        loop.call_soon_threadsafe(loop.call_later, seconds, do)

    def iterate(self, stream: AsyncGenerator[T, None]) -> Generator[T]:
        """The items of `stream`; leaving the loop early closes it, which stops the work."""

        async def following() -> tuple[T] | None:
            try:
                return (await anext(stream),)
            except StopAsyncIteration:
                return None

        try:
            while (item := self.run(following())) is not None:
                yield item[0]
        finally:
            self.run(stream.aclose())

    def close(self) -> None:
        """Stop the thread. What runs on it must have ended."""
        with self._lock:
            if self._stop is not None:
                self._stop()
            self._loop = self._stop = None

    def _prepared(
        self, work: Coroutine[Any, Any, T]
    ) -> tuple[Future[T], Callable[[], object], Callable[[], object]]:
        """The result, which comes when `work` has really ended, how to begin it, and how to cancel
        it."""
        loop = self._running_loop()
        result: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = loop.create_task(work)
            task.add_done_callback(lambda ended: _hand_over(ended, result))
            tasks.append(task)

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            else:  # it had not begun yet
                work.close()
                result.set_exception(asyncio.CancelledError())

        return (
            result,
            lambda: loop.call_soon_threadsafe(begin),
            lambda: loop.call_soon_threadsafe(cancel),
        )

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                self._stop = weakref.finalize(self, _stop, loop)
                threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True).start()
            return self._loop


def _hand_over(ended: asyncio.Task[T], result: Future[T]) -> None:
    if ended.cancelled():
        result.set_exception(asyncio.CancelledError())
    elif (error := ended.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(ended.result())


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(_end(asyncio.all_tasks(loop)))
    finally:
        loop.close()


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon_threadsafe(loop.stop)
