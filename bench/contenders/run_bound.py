"""Not an engine: how often a second the same threads can read as many bytes as a step must.

python bench/contenders/run_bound.py BYTES THREADS
"""

from __future__ import annotations

import sys
import time

import torch
from lines import answer


class Bound:
    def __init__(self, nbytes: str, threads: str) -> None:
        torch.set_num_threads(int(threads))
        self.array = torch.ones(int(nbytes) // 4)

    def decode(self, batch: int, context: int, tokens: int) -> float:
        started = time.perf_counter()
        for _ in range(tokens):
            self.array.sum()
        return tokens / (time.perf_counter() - started)


if __name__ == "__main__":
    answer(Bound(*sys.argv[1:]))
