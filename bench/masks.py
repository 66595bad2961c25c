"""What a grammar costs: constrained against unconstrained decoding, on the 1B shape, by the engine.

    python -m bench.masks [--weights int4] [--rounds 5] [--batches 1 4]

Random weights, the real vocabulary of 128,256 tokens (from Meta's `llama-models` package, which is
a development dependency), greedy and sampled rows. No speculation: it would guess what the grammar
forces, and make that faster. The kinds take turns, round by round; what is told is a step's time,
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

from bench.decode_1b import LLAMA_3_2_1B, random_model
from puna.chat import JsonFormat
from puna.engine.engine import Engine, EngineLimits
from puna.engine.grammar import Grammars
from puna.engine.sequence import Constraint, Emitted, Outcome, Prompt, SamplingParams
from puna.kernels import Format, native
from puna.llama.cache import KVCache
from puna.llama.grammars import json_grammar
from puna.llama.tokenizer import Tokenizer

CONTEXT = 128
STEPS = 24
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


class Bench:
    def __init__(self, weights: Format, most: int) -> None:
        config = LLAMA_3_2_1B
        pages = most * (CONTEXT + STEPS + 2 * PAGE_SIZE) // PAGE_SIZE
        self._engine = Engine(
            random_model(config, torch.float32, weights),
            KVCache(config, pages, PAGE_SIZE, torch.bfloat16),
            EngineLimits(context=1024, num_pages=pages, page_size=PAGE_SIZE),
        )
        tokenizer = Tokenizer.from_file(Path(meta.__file__).parent / "tokenizer.model")
        self._grammars = Grammars(tokenizer, config.vocab_size, tokenizer.stop_ids)

    def compile(self) -> Constraint:
        return self._grammars.compile(json_grammar(JsonFormat(SCHEMA)))

    def steps(self, count: int, temperature: float, *, constrained: bool) -> list[float]:
        """Seconds of each step in which `count` sequences say one token each."""
        sampling = SamplingParams(STEPS + 2, temperature=temperature, top_p=0.9, seed=1)
        said = 0

        def outbox(outcome: Outcome) -> None:
            nonlocal said
            if isinstance(outcome, Exception):
                raise SystemExit(f"a request failed: {outcome}")
            said += isinstance(outcome, Emitted)

        for number in range(count):
            prompt = Prompt(tuple(range(1000 + number, 1000 + number + CONTEXT)))
            self._engine.submit(prompt, sampling, outbox, self.compile() if constrained else None)
        while said < count:
            self._engine.step()  # the prompts, cached after the first round
        taken: list[float] = []
        for _ in range(STEPS):
            before, start = said, time.perf_counter()
            self._engine.step()
            taken.append(time.perf_counter() - start)
            if said - before != count:
                raise SystemExit("not every sequence said one token in this step")
        while self._engine.step():
            pass
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
            taken: dict[bool, list[float]] = {False: [], True: []}
            for number in range(options.rounds + 1):
                for constrained in taken:
                    seconds = bench.steps(count, temperature, constrained=constrained)
                    if number:  # the first round warms up
                        taken[constrained] += seconds
            plain, masked = (statistics.median(taken[each]) for each in (False, True))
            print(
                f"batch {count}, temperature {temperature}: {plain * 1e3:.2f} ms a step without, "
                f"{masked * 1e3:.2f} ms with a grammar: {masked / plain - 1:+.1%}"
            )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
