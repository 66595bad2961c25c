"""Time to the first token of a chat's second turn, with 4,096 tokens of history, against cold.

    python -m bench.second_turn [--rounds 5]

`LocalModel` on the random 1B shape: prompt written, tokens found in the page cache, what is new
computed, first token chosen; no server. Each round is a chat of its own, whose first word differs
from the others', so that its first turn finds nothing: that is cold. The second turn is the first,
an answer of 16 tokens as text, and a short question, so it has some 30 tokens more than the cold
one. The model's random answer is tokenised again and may be other tokens then, so only the first
turn's prompt is sure to be reused.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from bench.loading import checkpoint, terms, use_threads
from bench.rows import PUNA, Row, record
from puna.chat import Message, Sampling, collect, message, request
from puna.kernels import native
from puna.local import LocalModel
from puna.settings import Settings

HISTORY = 4096
WORDS = ("Alpha", "Beta", "Gamma", "Delta", "Omega")


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


async def measure(model: LocalModel, rounds: int) -> Row:
    settings = Sampling(max_tokens=16, temperature=0)
    warm: list[float] = []
    cold: list[float] = []
    for word in WORDS[:rounds]:
        first = history(model, word)
        cold.append(await seconds_to_first(model, first))
        reply = await collect(model.stream(request(first, sampling=settings)))
        turn = [*first, message("assistant", reply.text or "."), message("user", "And now?")]
        warm.append(await seconds_to_first(model, turn))
    title = f"first token of turn two, {reply.usage.prompt_tokens} tokens before"
    return Row("second turn", title, {PUNA: warm, "Puna, cold": cold}, "s", 20, less=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="second turn of a chat")
    parser.add_argument("--threads", type=int, default=native.processors())
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, len(WORDS) + 1))
    options = parser.parse_args()
    use_threads(options.threads)
    model = LocalModel(checkpoint(), Settings(max_context=16384), name="1B")
    print(terms(options.threads), flush=True)
    try:
        record([asyncio.run(measure(model, options.rounds))])
    finally:
        model.close()


if __name__ == "__main__":
    main()
