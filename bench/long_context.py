"""A decode step late in a long context, against the bandwidth bound; attention's share of prefill.

    python -m bench.long_context [--context 131072] [--kv int8 bfloat16] [--rows 1 4]

Llama 3.2 1B shape, random weights. The cache is filled with random keys, not by a prefill of
hours: a step reads the same bytes either way. The bound is what the same threads take to read as
many bytes as weights and cache have, in torch's sum of floats over a large array, measured in
turns with the step, so that the machine's drift meets both. `--prefill` times attention alone, of
512 rows at the end of each context: what a key costs must not grow with their number, so the rate
at the longest is compared with that at the shortest.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch

from bench.checkpoints import LLAMA_3_2_1B
from bench.decode_1b import PAGE_SIZE, random_model
from bench.rows import PUNA, Row, record
from puna import kernels
from puna.kernels import native
from puna.llama.batch import Batch, Span
from puna.llama.cache import KVCache
from puna.llama.packing import packed_bytes

ROWS = 512
GROUP = "long context"
AIM = 1 / 1.3  # of the bound
NO_FASTER = 0.95  # than attention must; the rest is for what is not equal in two measurements


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: list[float], unit: float = 1e3) -> str:
    low, high = min(values) * unit, max(values) * unit
    return f"{statistics.median(values) * unit:8.1f} ({low:.1f} to {high:.1f})"


def random_cache(tokens: int, dtype: torch.dtype) -> KVCache:
    config = LLAMA_3_2_1B
    cache = KVCache(config, -(-tokens // PAGE_SIZE), PAGE_SIZE, dtype)
    slots = torch.arange(cache.num_pages * PAGE_SIZE)
    for keys, values in cache.layers:
        for some in slots.split(8192):
            k, v = torch.randn(2, len(some), config.num_key_value_heads, config.head_dim)
            kernels.store(keys, values, some, k, v)
    return cache


def decode(context: int, dtype: torch.dtype, weights: str, rows: int, rounds: int) -> None:
    config = LLAMA_3_2_1B
    model = random_model(config, torch.float32, weights)  # type: ignore[arg-type]
    cache = random_cache(context, dtype)
    first = context - rows
    spans = (Span(0, rows, first, torch.randperm(cache.num_pages)),)
    batch = Batch(
        torch.randint(config.vocab_size, (rows,)),
        torch.arange(first, context),
        spans,
        torch.tensor([rows - 1]),
        exact=rows,
    )
    q = torch.randn(rows, config.num_attention_heads, config.head_dim)

    def attention() -> None:
        for keys, values in cache.layers:
            kernels.paged_attention(q, keys, values, spans)

    kv_bytes = cache.num_pages * KVCache.bytes_per_page(config, PAGE_SIZE, dtype)
    weight_bytes = packed_bytes(config, weights)  # type: ignore[arg-type]
    array = torch.ones(2**28)
    step_s: list[float] = []
    attention_s: list[float] = []
    bound_s: list[float] = []
    ratios: list[float] = []
    for number in range(rounds + 1):
        read = seconds(array.sum) / array.nbytes
        step = seconds(lambda: model(batch, cache))
        alone = seconds(attention)
        read = (read + seconds(array.sum) / array.nbytes) / 2
        if number:  # the first round warms up
            bound = read * (kv_bytes + weight_bytes)
            bound_s.append(bound)
            step_s.append(step)
            attention_s.append(alone)
            ratios.append(step / bound)
    title = f"a decode step over {context} tokens of {str(dtype)[6:]}, {weights} weights"
    if rows > 1:
        title += f", {rows} rows"
    taken = {
        PUNA: [1e3 * each for each in step_s],
        "reading weights and cache": [1e3 * each for each in bound_s],
    }
    record([Row(GROUP, title, taken, "ms", AIM, less=True)])
    speed = (kv_bytes + weight_bytes) / statistics.median(bound_s) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{context} tokens, {weights} weights ({weight_bytes / 1e9:.2f} GB), "
        f"{str(dtype).removeprefix('torch.')} cache ({kv_bytes / 1e9:.2f} GB), {rows} rows a step\n"
        f"  step, ms           {spread(step_s)}\n"
        f"  attention alone    {spread(attention_s)}\n"
        f"  bound at {speed:4.1f} GB/s {spread(bound_s)}\n"
        f"  step over bound    {spread(ratios, 1)}\n"
        f"  peak memory        {peak / 1e9:8.1f} GB (one of it the array that is read)",
        flush=True,
    )


def products(context: int) -> float:
    """Multiply-adds of attention, of the last `ROWS` rows."""
    pairs = ROWS * (context - ROWS) + ROWS * (ROWS + 1) // 2
    return 2 * pairs * LLAMA_3_2_1B.num_attention_heads * LLAMA_3_2_1B.head_dim


def prefill(contexts: list[int], dtype: torch.dtype, rounds: int) -> None:
    """One layer's attention of the last 512 rows before each context's end."""
    config = LLAMA_3_2_1B
    shape = config.num_key_value_heads, config.head_dim, PAGE_SIZE
    keys, values = kernels.new_pages(max(contexts) // PAGE_SIZE, *shape, dtype)
    k, v = torch.randn(2, max(contexts), *shape[:2])
    kernels.store(keys, values, torch.arange(max(contexts)), k, v)
    pages = torch.randperm(len(keys))
    q = torch.randn(ROWS, config.num_attention_heads, config.head_dim)
    taken: dict[int, list[float]] = {context: [] for context in contexts}
    for number in range(rounds + 1):
        for context in contexts:
            span = Span(0, ROWS, context - ROWS, pages)
            took = seconds(lambda s=span: kernels.paged_attention(q, keys, values, [s]))
            if number:
                taken[context].append(took)
    shortest, longest = min(contexts), max(contexts)
    if longest > shortest:
        rates = {
            PUNA: [products(longest) / each / 1e9 for each in taken[longest]],
            f"ending at {shortest}": [products(shortest) / each / 1e9 for each in taken[shortest]],
        }
        title = f"attention of {ROWS} rows that end at {longest}, {str(dtype)[6:]}"
        record([Row(GROUP, title, rates, "G multiply-adds/s", NO_FASTER)])
    for context, times in taken.items():
        rate = products(context) / statistics.median(times)
        print(
            f"attention of {ROWS} rows that end at {context:6}, {str(dtype)[6:]:<8} "
            f"{spread(times)} ms a layer, {rate / 1e9:5.1f} G multiply-adds/s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Llama 3.2 1B shape, random weights")
    parser.add_argument("--context", type=int, default=131072, help="tokens; 0: prefill alone")
    parser.add_argument("--kv", nargs="+", default=["int8"], choices=["int8", "bfloat16"])
    parser.add_argument("--weights", default="int4", choices=["int4", "int8", "bf16"])
    parser.add_argument("--rows", nargs="+", type=int, default=[1], help="rows a step")
    parser.add_argument("--prefill", type=int, nargs="*", default=[2048, 8192, 32768])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(native.processors())
    print(f"{native.processors()} threads, native {native.instruction_sets() or native.why_not()}")
    with torch.inference_mode():
        for name in options.kv:
            dtype: torch.dtype = getattr(torch, name)
            for rows in options.rows if options.context else []:
                decode(options.context, dtype, options.weights, rows, options.rounds)
            if options.prefill:
                prefill(options.prefill, dtype, options.rounds)


if __name__ == "__main__":
    main()
