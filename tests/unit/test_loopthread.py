"""What is handed to the loop of tools, interrupted at any moment, is ended and not left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from puna.loopthread import LoopThread


def interrupt(thread: LoopThread, monkeypatch: pytest.MonkeyPatch, *, after_it_began: bool) -> None:
    """Ctrl-C, once, while the next work is handed to the loop."""
    loop = thread._running_loop()  # pyright: ignore[reportPrivateUsage]
    hand_over = loop.call_soon_threadsafe

    def interrupted(do: Callable[..., Any], *arguments: Any) -> Any:
        monkeypatch.setattr(loop, "call_soon_threadsafe", hand_over)
        if after_it_began:
            hand_over(do, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)


@pytest.mark.parametrize("after_it_began", [True, False])
def test_ctrl_c_at_the_very_beginning_of_an_item_closes_the_stream(
    after_it_began: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    async def endless() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    thread = LoopThread()
    items = thread.iterate(endless())
    assert next(items) == 1
    interrupt(thread, monkeypatch, after_it_began=after_it_began)
    with pytest.raises(KeyboardInterrupt):
        next(items)
    assert closed == [True]
    thread.close()
