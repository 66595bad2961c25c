"""Time to the first token of a chat's second turn, with 4,096 tokens of history, against cold.

    python -m bench.second_turn [--rounds 5]

`LocalModel` on the random 1B shape: prompt written, tokens found in the page cache, what is new
computed, first token chosen; no server. The first turn's prompt fills the history; the second turn
is it, the answer as text, and a short question. Cold is the same second turn of a chat whose first
word differs, so that nothing of it is in the cache. The model's random answer is tokenised again
and may be other tokens then, so only the first turn's prompt is sure to be reused.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from bench.loading import checkpoint, terms, use_threads
from puna.chat import Message, Sampling, collect, message, request
from puna.kernels import native
from puna.local import LocalModel
from puna.settings import Settings

HISTORY = 4096


def history(model: LocalModel, first_word: str) -> list[Message]:
    """A chat whose prompt has about `HISTORY` tokens."""
    words = " one two three four five six seven eight nine ten"
    text = first_word + words * (HISTORY // 10)
    return [message("user", text[: len(first_word) + len(words) * (HISTORY - 60) // 10])]


async def seconds_to_first(model: LocalModel, chat: list[Message]) -> float:
    start = time.perf_counter()
    async for _ in model.stream(request(chat, sampling=Sampling(max_tokens=1, temperature=0))):
        return time.perf_counter() - start
    raise AssertionError("it said nothing")


async def measure(model: LocalModel, rounds: int) -> None:
    settings = Sampling(max_tokens=16, temperature=0)
    first = history(model, "Alpha")
    start = time.perf_counter()
    reply = await collect(model.stream(request(first, sampling=settings)))
    print(f"turn one, {reply.usage.prompt_tokens} + 16 tokens: {time.perf_counter() - start:.1f} s")
    warm: list[float] = []
    for number in range(rounds):
        turn = [*first, message("assistant", reply.text or "."), message("user", f"And {number}?")]
        warm.append(await seconds_to_first(model, turn))
    print(
        f"turn two, first token: {statistics.median(warm):.2f} s "
        f"({min(warm):.2f} to {max(warm):.2f})",
        flush=True,
    )
    other = history(model, "Omega")
    turn = [*other, message("assistant", reply.text or "."), message("user", "And 0?")]
    cold = await seconds_to_first(model, turn)
    print(f"the same, cold: {cold:.1f} s, {cold / statistics.median(warm):.0f} times as long")


def main() -> None:
    parser = argparse.ArgumentParser(description="second turn of a chat")
    parser.add_argument("--threads", type=int, default=native.processors())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    use_threads(options.threads)
    model = LocalModel(checkpoint(), Settings(max_context=16384), name="1B")
    print(terms(options.threads), flush=True)
    try:
        asyncio.run(measure(model, options.rounds))
    finally:
        model.close()


if __name__ == "__main__":
    main()
