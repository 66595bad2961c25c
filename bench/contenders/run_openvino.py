"""OpenVINO GenAI's pipeline on token ids, hinted for latency as its documents say.

A decode step is what a longer answer takes beyond a short one.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import openvino as ov
import openvino_genai as genai
from lines import answer


class OpenVINO:
    def __init__(self, model: str, threads: str) -> None:
        self.model = genai.LLMPipeline(
            model, "CPU", INFERENCE_NUM_THREADS=int(threads), PERFORMANCE_HINT="LATENCY"
        )
        self.rng = np.random.default_rng(0)

    def prefill(self, tokens: int) -> float:
        return tokens / self._seconds(1, tokens, 1)

    def decode(self, batch: int, context: int, tokens: int) -> float:
        short, long = self._seconds(batch, context, 1), self._seconds(batch, context, tokens + 1)
        return batch * tokens / (long - short)

    def _seconds(self, batch: int, context: int, tokens: int) -> float:
        ids = self.rng.integers(1000, 120_000, (batch, context), np.int64)
        inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        started = time.perf_counter()
        self.model.generate(inputs, max_new_tokens=tokens, ignore_eos=True, do_sample=False)
        return time.perf_counter() - started


if __name__ == "__main__":
    answer(OpenVINO(*sys.argv[1:]))
