"""Tokens per second of the Llama 3.2 1B shape: random weights, straight through `Llama.forward`.

    python -m bench.decode_1b [--weights int4 int8 bf16 torch-bfloat16] [--rounds 5]

It measures the model alone: no engine, no sampling but argmax, no server. `bf16`, `int8` and
`int4` are packed weights in the native kernels; `torch-*` the plain torch twins. The kinds take
turns, round by round, so that the machine's drift meets all of them; the median of the rounds is
told, with the slowest and the fastest. Decode is timed one step at a time, after 512 tokens.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import cast

import torch

from bench.checkpoints import LLAMA_3_2_1B
from puna.kernels import Format, native, pack
from puna.llama import linear
from puna.llama.batch import Batch, Span
from puna.llama.cache import KVCache
from puna.llama.config import LlamaConfig
from puna.llama.model import Llama
from puna.llama.packing import format_of, packed_bytes
from puna.llama.shapes import count_parameters, tensor_shapes

CONTEXT = 512
PAGE_SIZE = 16
PAGES_EACH = 40
KINDS = ("int4", "int8", "bf16", "torch-bfloat16", "torch-float32")


class Candidate:
    """A model of one kind, with its cache."""

    def __init__(self, kind: str, sequences: int) -> None:
        self.kind = kind
        packing = None if kind.startswith("torch-") else cast(Format, kind)
        dtype: torch.dtype = getattr(
            torch, kind.removeprefix("torch-") if not packing else "float32"
        )
        self.model = random_model(LLAMA_3_2_1B, dtype, packing)
        cache_dtype = torch.bfloat16 if packing else dtype
        self.cache = KVCache(LLAMA_3_2_1B, sequences * PAGES_EACH, PAGE_SIZE, cache_dtype)
        for pages in (tensor for layer in self.cache.layers for tensor in layer):
            pages.normal_()
        count = count_parameters(LLAMA_3_2_1B)
        self.nbytes = packed_bytes(LLAMA_3_2_1B, packing) if packing else count * dtype.itemsize

    def seconds(self, batch: Batch) -> float:
        start = time.perf_counter()
        self.model(batch, self.cache).argmax(-1)
        return time.perf_counter() - start


def random_model(config: LlamaConfig, dtype: torch.dtype, packing: Format | None) -> Llama:
    with torch.device("meta"):
        model = Llama(config)
    state: dict[str, torch.Tensor] = {}
    for name, shape in tensor_shapes(config).items():
        weight = torch.ones(shape) if len(shape) < 2 else torch.randn(shape).mul_(0.02)
        form = format_of(name, config, packing) if packing else None
        if form:
            linear.pack(model.get_submodule(name.removesuffix(".weight")), pack(weight, form))
        else:
            state[name] = weight.to(dtype)
    model.load_state_dict(state, strict=True, assign=True)
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
        exact=rows if context else 0,
    )


def compare(
    title: str,
    candidates: list[Candidate],
    batch: Batch,
    rounds: int,
    report: Callable[[str], None],
) -> None:
    taken: dict[str, list[float]] = {each.kind: [] for each in candidates}
    for number in range(rounds + 1):
        for each in candidates:
            seconds = each.seconds(batch)
            if number:  # the first round warms up
                taken[each.kind].append(seconds)
    rows = len(batch.token_ids)
    for each in candidates:
        median, slow, fast = (
            rows / value
            for value in (
                statistics.median(taken[each.kind]), max(taken[each.kind]), min(taken[each.kind])
            )
        )  # fmt: skip
        report(f"{title:<14} {each.kind:<15} {median:8.1f} tokens/s   ({slow:.1f} to {fast:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Llama 3.2 1B shape, random weights")
    parser.add_argument("--weights", nargs="+", default=["int4", "int8", "bf16"], choices=KINDS)
    parser.add_argument("--threads", type=int, default=native.processors())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--prefill", type=int, default=512, help="tokens; at most 640")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    kernels = native.library()
    if kernels is not None:
        kernels.puna_threads(options.threads)
    candidates = [Candidate(kind, max(options.batches)) for kind in options.weights]
    print(
        f"{options.threads} threads, native {native.instruction_sets() or native.why_not()}, torch "
        f"{torch.__version__} {torch.backends.cpu.get_cpu_capability()}; median of "
        f"{options.rounds} rounds; weights: "
        + ", ".join(f"{each.kind} {each.nbytes / 1e6:.0f} MB" for each in candidates)
    )
    with torch.inference_mode():
        for sequences in options.batches:
            rounds = 4 * options.rounds if sequences == 1 else options.rounds
            compare(
                f"decode x{sequences}", candidates, batch_of(sequences, 1, CONTEXT), rounds, print
            )
        batch = batch_of(1, options.prefill, 0)
        compare(f"prefill {options.prefill}", candidates, batch, options.rounds, print)


if __name__ == "__main__":
    main()
