"""Tokens per second of the Llama 3.2 1B shape: random weights, straight through `Llama.forward`.

    python -m bench.decode_1b [--dtype bfloat16] [--threads N] [--repeats 5]

It measures the model alone: no engine, no sampling but argmax, no server. Decode is timed one step
at a time at a context of 128 tokens; spread is the slowest and the fastest of the repeats.
On a machine that others use too, `--threads 1 --cpu-time` counts this process's own time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from puna.llama.batch import Batch, Span
from puna.llama.cache import KVCache
from puna.llama.config import LlamaConfig, RopeScaling
from puna.llama.model import Llama

LLAMA_3_2_1B = LlamaConfig(
    hidden_size=2048,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=8192,
    head_dim=64,
    rope_scaling=RopeScaling(factor=32),
    tie_word_embeddings=True,
)
CONTEXT = 128
PAGE_SIZE = 16
PAGES_EACH = 40


def random_model(config: LlamaConfig, dtype: torch.dtype) -> Llama:
    with torch.device("meta"):
        model = Llama(config)
    weights = {
        name: torch.empty(shape.shape, dtype=dtype).normal_(std=0.02)
        if shape.dim() > 1
        else torch.ones(shape.shape, dtype=dtype)
        for name, shape in model.state_dict().items()
    }
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def batch_of(sequences: int, length: int, context: int) -> Batch:
    """`sequences` spans of `length` new tokens, each after `context`; the last row's logits."""
    rows = sequences * length
    spans = tuple(
        Span(i * length, length, context, torch.arange(i * PAGES_EACH, (i + 1) * PAGES_EACH))
        for i in range(sequences)
    )
    return Batch(
        torch.randint(LLAMA_3_2_1B.vocab_size, (rows,)),
        torch.arange(context, context + length).repeat(sequences),
        spans,
        torch.arange(length - 1, rows, length),
    )


def rate(tokens: int, step: Callable[[], object], repeats: int, clock: Callable[[], float]) -> str:
    step()
    seconds: list[float] = []
    for _ in range(repeats):
        start = clock()
        step()
        seconds.append(clock() - start)
    median, slow, fast = (
        tokens / value for value in (statistics.median(seconds), max(seconds), min(seconds))
    )
    return f"{median:8.2f} tokens/s   ({slow:.2f} to {fast:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Llama 3.2 1B shape, random weights")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--prefill", type=int, default=512, help="tokens; at most 640")
    parser.add_argument("--cpu-time", action="store_true", help="needs --threads 1")
    options = parser.parse_args()
    if options.cpu_time and options.threads != 1:
        parser.error("--cpu-time adds up all threads: use it with --threads 1")
    clock = time.process_time if options.cpu_time else time.perf_counter

    torch.set_num_threads(options.threads)
    dtype: torch.dtype = getattr(torch, options.dtype)
    model = random_model(LLAMA_3_2_1B, dtype)
    cache = KVCache(LLAMA_3_2_1B, max(options.batches) * PAGES_EACH, PAGE_SIZE, dtype)
    for pages in (tensor for layer in cache.layers for tensor in layer):
        pages.normal_()

    def timed(batch: Batch) -> Callable[[], object]:
        return lambda: model(batch, cache).argmax(-1)

    print(
        f"{options.dtype}, {options.threads} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"torch {torch.__version__}, median of {options.repeats}, "
        f"{'processor' if options.cpu_time else 'wall'} time"
    )
    with torch.inference_mode():
        for sequences in options.batches:
            step = timed(batch_of(sequences, 1, CONTEXT))
            repeats = 4 * options.repeats if sequences == 1 else options.repeats
            print(
                f"decode, batch {sequences:<4} {rate(sequences, step, repeats, clock)}", flush=True
            )
        step = timed(batch_of(1, options.prefill, 0))
        print(
            f"prefill {options.prefill:<10} {rate(options.prefill, step, options.repeats, clock)}"
        )


if __name__ == "__main__":
    main()
