"""Decode at batch 1 on texts that repeat their prompt: with guessing and without.

    python -m bench.repeats [--texts edit summary tool story] [--rounds 5]

A model of random weights repeats nothing, so the texts are given: an edit of a program, a summary
of minutes, an answer from a tool's result, and a story that repeats nothing, each a prompt and an
answer in `bench/texts`. The model of the true shape computes every row; then, and only then, the
logit of the token that stands in the answer at that place is made the greatest. So what is guessed
right is decided by a real text in Llama 3's real tokens, and what a step costs by the real shape.
The texts were written for this bench, not by a model: they repeat what a careful writer repeats.

Taking turns, round by round: the same engine with and without speculation, which begins each round
without experience. Told is the answer's speed from its first token to its last, the median of the
rounds with the slowest and the fastest, and how many tokens came of a step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.loading import loaded, terms
from puna.engine.engine import Engine, EngineLimits
from puna.engine.sequence import Emitted, Outcome, Prompt, SamplingParams
from puna.engine.speculation import Speculation
from puna.kernels import native
from puna.llama.batch import Batch
from puna.llama.cache import KVCache
from puna.llama.model import Llama
from puna.llama.tokenizer import Tokenizer

TEXTS = Path(__file__).parent / "texts"
CONTEXT = 4096
PAGE_SIZE = 16


class Replayed:
    """A model that says `text`, whatever it computes."""

    def __init__(self, model: Llama) -> None:
        self.model = model
        self.text: Tensor = torch.empty(0, dtype=torch.int64)

    def forward(self, batch: Batch, cache: Any) -> Tensor:
        logits = self.model.forward(batch, cache)
        following = self.text[(batch.positions[batch.logit_rows] + 1).clamp(max=len(self.text) - 1)]
        return logits.scatter_(1, following[:, None], 1e6)

    def encode_image(self, image: Any) -> Any:
        return self.model.encode_image(image)


def read(name: str, tokenizer: Tokenizer, answer_tokens: int) -> tuple[list[int], list[int]]:
    prompt, answer = (TEXTS / f"{name}.txt").read_text().split("=== ANSWER ===\n")
    return tokenizer.encode(prompt), tokenizer.encode(answer)[:answer_tokens]


def seconds(engine: Engine, prompt: Sequence[int], answer: Sequence[int]) -> tuple[float, int]:
    """From the answer's first token to its last, and the steps between."""
    times: list[float] = []
    said: list[int] = []

    def outbox(outcome: Outcome) -> None:
        if isinstance(outcome, Emitted):
            times.append(time.perf_counter())
            said.append(outcome.token)

    engine.submit(Prompt(tuple(prompt)), SamplingParams(len(answer), temperature=0), outbox)
    while not said:
        engine.step()
    before = engine.stats().steps
    while engine.step():
        pass
    assert said == list(answer), "another text than the given one"
    return times[-1] - times[0], engine.stats().steps - before


def compare(
    name: str, model: Replayed, cache: KVCache, tokenizer: Tokenizer, rounds: int, most: int
) -> None:
    prompt, answer = read(name, tokenizer, most)
    model.text = torch.tensor([*prompt, *answer])
    limits = EngineLimits(CONTEXT, CONTEXT // PAGE_SIZE, PAGE_SIZE)
    taken: dict[str, list[float]] = {"off": [], "auto": []}
    steps = {"off": 0, "auto": 0}
    engine = Engine(model, cache, limits)
    seconds(engine, prompt, answer[:2])  # the prompt, which is reused from now on
    for _ in range(rounds):
        for mode in taken:
            engine._speculation = Speculation() if mode == "auto" else None
            spent, steps[mode] = seconds(engine, prompt, answer)
            taken[mode].append(spent)
    ratio = statistics.median(a / b for a, b in zip(taken["off"], taken["auto"], strict=True))
    for mode, values in taken.items():
        speeds = [(len(answer) - 1) / value for value in values]
        print(
            f"{name:<8} {len(prompt):4} + {len(answer):3} tokens, speculation {mode:<4} "
            f"{statistics.median(speeds):6.1f} tokens/s ({min(speeds):.1f} to {max(speeds):.1f}), "
            f"{(len(answer) - 1) / steps[mode]:.2f} tokens a step",
            flush=True,
        )
    print(f"{name:<8} {ratio:.2f} times as fast with speculation", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="decode of texts that repeat their prompt")
    parser.add_argument("--texts", nargs="+", default=["edit", "summary", "tool", "story"])
    parser.add_argument("--threads", type=int, default=native.processors())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=160, help="of the answer, at most")
    options = parser.parse_args()

    llama, checkpoint = loaded(options.threads)
    cache = KVCache(checkpoint.config, CONTEXT // PAGE_SIZE, PAGE_SIZE, torch.bfloat16)
    print(f"{terms(options.threads)}; median of {options.rounds} rounds", flush=True)
    tokenizer = checkpoint.tokenizer()
    for name in options.texts:
        compare(name, Replayed(llama), cache, tokenizer, options.rounds, options.tokens)


if __name__ == "__main__":
    main()
