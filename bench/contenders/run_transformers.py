"""transformers with torch, greedy, with its own cache."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from lines import answer
from transformers import AutoModelForCausalLM


class Transformers:
    def __init__(self, model: str, dtype: str, threads: str) -> None:
        torch.set_num_threads(int(threads))
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.caches: dict[tuple[int, int], Any] = {}

    @torch.inference_mode()
    def prefill(self, tokens: int) -> float:
        ids = torch.randint(1000, 120_000, (1, tokens))
        started = time.perf_counter()
        self.model(ids, logits_to_keep=1).logits.argmax(-1)
        return tokens / (time.perf_counter() - started)

    @torch.inference_mode()
    def decode(self, batch: int, context: int, tokens: int) -> float:
        if (batch, context) not in self.caches:
            prompt = torch.randint(1000, 120_000, (batch, context))
            self.caches[batch, context] = self.model(prompt, logits_to_keep=1).past_key_values
        cache = self.caches[batch, context]
        if cache.get_seq_length() > context:
            cache.crop(context - cache.get_seq_length())  # negative: how many go
        ids = torch.randint(1000, 120_000, (batch, 1))
        started = time.perf_counter()
        for _ in range(tokens):
            ids = self.model(ids, past_key_values=cache).logits[:, -1].argmax(-1, keepdim=True)
        return batch * tokens / (time.perf_counter() - started)


if __name__ == "__main__":
    answer(Transformers(*sys.argv[1:]))
