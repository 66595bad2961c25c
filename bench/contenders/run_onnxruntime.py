"""ONNX Runtime GenAI, greedy, on the model that its own builder made.

Batches share one length and its generator cannot go back, so each batch's prompts are computed
once and its answers go on from where they were: contexts grow by what was decoded before.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime_genai as genai
from lines import answer

LONGEST = 1024


class OnnxRuntime:
    def __init__(self, model: str, threads: str) -> None:
        config = genai.Config(model)
        options = {"session_options": {"intra_op_num_threads": int(threads)}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self.model = genai.Model(config)
        self.rng = np.random.default_rng(0)
        self.answering: dict[tuple[int, int], genai.Generator] = {}

    def prefill(self, tokens: int) -> float:
        started = time.perf_counter()
        generator = self._begin(1, tokens, tokens + 16)
        generator.generate_next_token()
        return tokens / (time.perf_counter() - started)

    def decode(self, batch: int, context: int, tokens: int) -> float:
        generator = self.answering.get((batch, context))
        if generator is None or generator.token_count() + tokens > LONGEST:
            self.answering.clear()
            generator = self._begin(batch, context, LONGEST)
            generator.generate_next_token()
            self.answering[batch, context] = generator
        started = time.perf_counter()
        for _ in range(tokens):
            generator.generate_next_token()
        return batch * tokens / (time.perf_counter() - started)

    def _begin(self, batch: int, tokens: int, longest: int) -> genai.Generator:
        params = genai.GeneratorParams(self.model)
        params.set_search_options(
            batch_size=batch, max_length=longest, min_length=longest, do_sample=False
        )
        generator = genai.Generator(self.model, params)
        generator.append_tokens(self.rng.integers(1000, 120_000, (batch, tokens), np.int32))
        return generator


if __name__ == "__main__":
    answer(OnnxRuntime(*sys.argv[1:]))
