"""CTranslate2, greedy; its generator takes a batch and gives all back at the end.

A decode step is what a longer answer takes beyond a short one, for it has no cache to begin from.
"""

from __future__ import annotations

import random
import sys
import time

import ctranslate2
from lines import answer


class CTranslate2:
    def __init__(self, model: str, compute_type: str, threads: str) -> None:
        self.model = ctranslate2.Generator(
            model, device="cpu", compute_type=compute_type, intra_threads=int(threads)
        )
        self.random = random.Random(0)

    def prefill(self, tokens: int) -> float:
        return tokens / self._seconds(1, tokens, 1)

    def decode(self, batch: int, context: int, tokens: int) -> float:
        short, long = self._seconds(batch, context, 1), self._seconds(batch, context, tokens + 1)
        return batch * tokens / (long - short)

    def _seconds(self, batch: int, context: int, tokens: int) -> float:
        words = ("the", "of", "and", "to", "in", "a", "is", "that", "for", "it")
        prompts = [[self.random.choice(words) for _ in range(context)] for _ in range(batch)]
        started = time.perf_counter()
        self.model.generate_batch(
            prompts,
            max_length=tokens,
            min_length=tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            cache_static_prompt=False,
        )
        return time.perf_counter() - started


if __name__ == "__main__":
    answer(CTranslate2(*sys.argv[1:]))
