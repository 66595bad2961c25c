from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import pytest

from puna.server.streams import ClientGone, merge, while_connected


class Client:
    """The `receive` of a client that may go."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_work_goes_on_while_the_client_is_there() -> None:
    async with while_connected(Client().receive):
        await asyncio.sleep(0.01)
        done = True
    assert done


async def test_work_is_cancelled_where_it_waits_when_the_client_goes() -> None:
    client = Client()
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        async with while_connected(client.receive):
            asyncio.get_running_loop().call_later(0.01, client.gone.set)
            try:
                await asyncio.sleep(30)
            finally:
                await asyncio.sleep(0.01)  # cleaning up may itself wait
                cleaned = True

    with pytest.raises(ClientGone):
        await work()
    assert cleaned


async def test_other_cancellations_and_errors_pass_through() -> None:
    for error in (KeyError, TimeoutError, asyncio.CancelledError):
        with pytest.raises(error):
            async with while_connected(Client().receive):
                raise error


async def test_a_cancelled_task_is_cancelled_and_not_taken_for_a_client_that_went() -> None:
    async def work() -> None:
        async with while_connected(Client().receive):
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_watcher_outlives_its_work() -> None:
    before = asyncio.all_tasks()
    client = Client()
    async with while_connected(client.receive):
        pass
    with suppress(ClientGone):
        async with while_connected(client.receive):
            client.gone.set()
            await asyncio.sleep(30)
    assert asyncio.all_tasks() == before


class Source:
    def __init__(self) -> None:
        self.open = 0

    async def count(
        self, upto: int, pause: float = 0.0, error: Exception | None = None
    ) -> AsyncGenerator[int, None]:
        self.open += 1
        try:
            for i in range(upto):
                await asyncio.sleep(pause)
                yield i
            if error is not None:
                raise error
        finally:
            self.open -= 1


@pytest.mark.parametrize("n", [1, 2, 5])
async def test_every_event_of_every_stream_comes_once_and_in_its_order(n: int) -> None:
    source = Source()
    seen: dict[int, list[int]] = {i: [] for i in range(n)}
    async for index, event in merge([source.count(100 + i) for i in range(n)]):
        seen[index].append(event)
    assert seen == {i: list(range(100 + i)) for i in range(n)}
    assert source.open == 0


@pytest.mark.parametrize("n", [1, 3])
async def test_closing_closes_all_streams_at_once(n: int) -> None:
    source = Source()
    async with aclosing(merge([source.count(10**6, 0.001) for _ in range(n)])) as events:
        async for _ in events:
            if source.open == n:
                break
    assert source.open == 0


@pytest.mark.parametrize("n", [1, 3])
async def test_an_error_in_one_stream_ends_them_all(n: int) -> None:
    source = Source()
    streams = [source.count(3, error=KeyError("x")), *[source.count(10**6) for _ in range(n - 1)]]
    with pytest.raises(KeyError):
        async for _ in merge(streams):
            pass
    assert source.open == 0


async def test_a_reader_that_stops_reading_holds_the_models_back() -> None:
    produced = 0

    async def eager() -> AsyncGenerator[int, None]:
        nonlocal produced
        for i in range(10_000):
            produced += 1
            yield i
            await asyncio.sleep(0)

    async with aclosing(merge([eager(), eager()])) as events:
        await anext(events)
        await asyncio.sleep(0.05)
    assert produced < 200
