"""OpenVINO GenAI's continuous batching on token ids, hinted for latency as its documents say.

Keys and values are kept as it keeps them by itself (8 bits on a CPU), prompts are found again in
its prefix cache, and a prompt goes through in one step instead of in steps of 256 tokens.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import openvino as ov
import openvino_genai as genai
from lines import answer

CACHE_GB = 2


class OpenVINO:
    def __init__(self, model: str, threads: str) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GB
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = 2048
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": int(threads)}
        self.model = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", hints, {})
        self.rng = np.random.default_rng(0)
        self.prompts: dict[tuple[int, int], ov.Tensor] = {}
        self.requests = 0

    def prefill(self, tokens: int) -> float:
        prompt = self.prompts[0, tokens] = self._prompt(tokens)
        started = time.perf_counter()
        times = self._run([prompt], 1)
        return tokens / (times[0][0] - started)

    def decode(self, batch: int, context: int, tokens: int) -> float:
        prompts = [
            self.prompts.setdefault((number, context), self._prompt(context))
            for number in range(batch)
        ]
        times = self._run(prompts, tokens + 1)
        begun, ended = max(each[0] for each in times), min(each[-1] for each in times)
        counted = sum(sum(begun < moment <= ended for moment in each) for each in times)
        return counted / (ended - begun)

    def _prompt(self, tokens: int) -> ov.Tensor:
        return ov.Tensor(self.rng.integers(1000, 120_000, (1, tokens), np.int64))

    def _run(self, prompts: list[ov.Tensor], tokens: int) -> list[list[float]]:
        """When each sequence's tokens came."""
        wanted = genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True, do_sample=False)
        handles = []
        for prompt in prompts:
            self.requests += 1
            handles.append(self.model.add_request(self.requests, prompt, wanted))
        times: list[list[float]] = [[] for _ in handles]
        while self.model.has_non_finished_requests():
            self.model.step()
            for handle, seen in zip(handles, times, strict=True):
                while handle.can_read():
                    came = sum(len(each.generated_ids) for each in handle.read().values())
                    seen += [time.perf_counter()] * came
        return times


if __name__ == "__main__":
    answer(OpenVINO(*sys.argv[1:]))
