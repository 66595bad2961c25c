"""CTranslate2, greedy, timed by its callback for each token.

All sequences of a batch begin with one prompt, whose state it keeps between calls, each with a
copy; the last token of the prompt is their own.
"""

from __future__ import annotations

import random
import sys
import time

import ctranslate2
from lines import answer

WORDS = ("the", "of", "and", "to", "in", "a", "is", "that", "for", "it")


class CTranslate2:
    def __init__(self, model: str, compute_type: str, threads: str) -> None:
        self.model = ctranslate2.Generator(
            model, device="cpu", compute_type=compute_type, intra_threads=int(threads)
        )
        self.random = random.Random(0)
        self.prompts: dict[int, list[str]] = {}

    def prefill(self, tokens: int) -> float:
        started = time.perf_counter()
        times = self._run([self._words(tokens)], 1)
        return tokens / (times[0] - started)

    def decode(self, batch: int, context: int, tokens: int) -> float:
        prompt = self.prompts.setdefault(context, self._words(context - 1))
        times = self._run([[word] for word in WORDS * 2][:batch], tokens + 1, prompt)
        begun, ended = times[batch - 1], times[-1]
        return sum(begun < moment for moment in times) / (ended - begun)

    def _words(self, count: int) -> list[str]:
        return self.random.choices(WORDS, k=count)

    def _run(
        self, begins: list[list[str]], tokens: int, before: list[str] | None = None
    ) -> list[float]:
        """When tokens came, of all sequences."""
        times: list[float] = []
        self.model.generate_batch(
            begins,
            max_length=tokens,
            min_length=tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            static_prompt=before,
            callback=lambda result: bool(times.append(time.perf_counter())),
        )
        assert len(times) == len(begins) * tokens, (len(times), len(begins), tokens)
        return times


if __name__ == "__main__":
    answer(CTranslate2(*sys.argv[1:]))
