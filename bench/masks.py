"""What a grammar costs: constrained against unconstrained decoding, on the 1B shape, by the engine.

    python -m bench.masks [--weights int4] [--rounds 5] [--batches 1 4]

Random weights, the real vocabulary of 128,256 tokens (from Meta's `llama-models` package, which is
a development dependency), greedy and sampled rows. No speculation: it would guess what the grammar
forces, and make that faster. Two engines over one model take turns, step by step, so that the
machine's drift (far more than a grammar's cost) meets both alike; what is told is a step's time,
from the scheduler to the chosen ids. The grammar is an endless array of objects, so that no answer
ends before its round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import llama_models.llama3.tokenizer as meta
import torch

from bench.checkpoints import LLAMA_3_2_1B
from bench.decode_1b import random_model
from puna.chat import JsonFormat
from puna.engine.engine import Engine, EngineLimits
from puna.engine.grammar import Grammars
from puna.engine.runner import Model
from puna.engine.sequence import Constraint, Emitted, Outcome, Prompt, SamplingParams
from puna.kernels import Format, native
from puna.llama.cache import KVCache
from puna.llama.grammars import json_grammar
from puna.llama.tokenizer import Tokenizer

CONTEXT = 128
STEPS = 32
PAGE_SIZE = 16
SCHEMA = {
    "type": "array",
    "minItems": 10_000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "kind": {"enum": ["person", "place", "thing"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 100_000},
            "weight": {"type": "number"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}},
        },
        "required": ["name", "kind", "count"],
        "additionalProperties": False,
    },
}


class Side:
    """One engine, and the answers that it is giving."""

    def __init__(self, model: Model, pages: int) -> None:
        self._engine = Engine(
            model,
            KVCache(LLAMA_3_2_1B, pages, PAGE_SIZE, torch.bfloat16),
            EngineLimits(context=1024, num_pages=pages, page_size=PAGE_SIZE),
        )
        self._said = 0

    def begin(
        self, count: int, temperature: float, constraint: Callable[[], Constraint | None]
    ) -> None:
        sampling = SamplingParams(STEPS + 2, temperature=temperature, top_p=0.9, seed=1)
        for number in range(count):
            prompt = Prompt(tuple(range(1000 + number, 1000 + number + CONTEXT)))
            self._engine.submit(prompt, sampling, self._hear, constraint())
        before = self._said
        while self._said < before + count:
            self._engine.step()  # the prompts, cached after the first round

    def step(self, count: int) -> float:
        """Seconds in which `count` sequences say one token each."""
        before, start = self._said, time.perf_counter()
        self._engine.step()
        taken = time.perf_counter() - start
        if self._said - before != count:
            raise SystemExit("not every sequence said one token in this step")
        return taken

    def end(self) -> None:
        while self._engine.step():
            pass

    def _hear(self, outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            raise SystemExit(f"a request failed: {outcome}")
        self._said += isinstance(outcome, Emitted)


class Bench:
    def __init__(self, weights: Format, most: int) -> None:
        model = random_model(LLAMA_3_2_1B, torch.float32, weights)
        pages = most * (CONTEXT + STEPS + 2 * PAGE_SIZE) // PAGE_SIZE
        self._plain, self._masked = Side(model, pages), Side(model, pages)
        tokenizer = Tokenizer.from_file(Path(meta.__file__).parent / "tokenizer.model")
        self._grammars = Grammars(tokenizer, LLAMA_3_2_1B.vocab_size, tokenizer.stop_ids)

    def compile(self) -> Constraint:
        return self._grammars.compile(json_grammar(JsonFormat(SCHEMA)))

    def steps(self, count: int, temperature: float) -> list[tuple[float, float]]:
        """Seconds of each step, without and with a grammar."""
        self._plain.begin(count, temperature, lambda: None)
        self._masked.begin(count, temperature, self.compile)
        taken: list[tuple[float, float]] = []
        for number in range(STEPS):
            if number % 2:
                plain = self._plain.step(count)
                taken.append((plain, self._masked.step(count)))
            else:
                masked = self._masked.step(count)
                taken.append((self._plain.step(count), masked))
        self._plain.end()
        self._masked.end()
        return taken


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of a grammar's masks")
    parser.add_argument("--weights", default="int4", choices=("int4", "int8", "bf16"))
    parser.add_argument("--threads", type=int, default=native.processors())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    kernels = native.library()
    if kernels is not None:
        kernels.puna_threads(options.threads)
    start = time.perf_counter()
    bench = Bench(options.weights, max(options.batches))
    built = time.perf_counter()
    bench.compile()
    table = time.perf_counter()
    compiled = [_seconds(bench.compile) for _ in range(20)]
    print(
        f"{options.threads} threads, {options.weights}; model {built - start:.0f} s, table of the "
        f"vocabulary {table - built:.2f} s, then a grammar "
        f"{statistics.median(compiled) * 1e3:.1f} ms"
    )
    for count in options.batches:
        for temperature in (0.0, 1.0):
            bench.steps(count, temperature)  # warms up
            pairs = [
                pair for _ in range(options.rounds) for pair in bench.steps(count, temperature)
            ]
            plain = statistics.median(each for each, _ in pairs)
            more = sorted(masked - each for each, masked in pairs)
            low, middle, high = (more[len(more) * part // 4] for part in (1, 2, 3))
            print(
                f"batch {count}, temperature {temperature}: {plain * 1e3:.2f} ms a step, with a "
                f"grammar {middle * 1e3:+.2f} ms ({low * 1e3:+.2f} to {high * 1e3:+.2f}, quartiles "
                f"of {len(pairs)}): {middle / plain:+.1%}"
            )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
