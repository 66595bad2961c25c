"""Puna's engine, bare: prompt ids in, token ids out, sampling and scheduling included."""

from __future__ import annotations

import argparse
import queue
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.contenders.lines import answer
from puna.engine.sequence import Emitted, Ended, Prompt, SamplingParams
from puna.local import LocalModel
from puna.settings import Settings


class Puna:
    def __init__(self, path: str, options: dict[str, str]) -> None:
        self.model = LocalModel.load(
            path,
            Settings.model_validate(
                {"max_context": 2048, "max_prompt_tokens": 512, "speculation": "off"} | options
            ),
            name="random",
        )
        self.engine = self.model._engine  # pyright: ignore[reportPrivateUsage]
        self.random = random.Random(0)
        self.prompts: dict[tuple[int, int], Prompt] = {}

    def prefill(self, tokens: int) -> float:
        prompt = self.prompts[0, tokens] = self._prompt(tokens)
        started = time.perf_counter()
        times = self._run([prompt], 1)
        return tokens / (times[0][0] - started)

    def decode(self, batch: int, context: int, tokens: int) -> float:
        """The prompts are computed once, and found again: every sequence has pages of its own."""
        prompts = [
            self.prompts.setdefault((number, context), self._prompt(context))
            for number in range(batch)
        ]
        times = self._run(prompts, tokens + 1)
        begun = max(each[0] for each in times)
        ended = min(each[-1] for each in times)
        counted = sum(sum(begun < moment <= ended for moment in each) for each in times)
        return counted / (ended - begun)

    def _prompt(self, tokens: int) -> Prompt:
        return Prompt(tuple(self.random.randrange(1000, 120_000) for _ in range(tokens)))

    def _run(self, prompts: list[Prompt], tokens: int) -> list[list[float]]:
        """When each sequence's tokens came."""
        told: queue.Queue[tuple[int, float, object]] = queue.Queue()
        sampling = SamplingParams(max_tokens=tokens, temperature=0.0)
        for number, prompt in enumerate(prompts):
            self.engine.submit(
                prompt,
                sampling,
                lambda outcome, number=number: told.put((number, time.perf_counter(), outcome)),
            )
        times: list[list[float]] = [[] for _ in prompts]
        left = len(prompts)
        while left:
            number, moment, outcome = told.get()
            if isinstance(outcome, Emitted):
                times[number].append(moment)
            elif isinstance(outcome, Ended):
                left -= 1
            else:
                raise RuntimeError(f"{outcome}")
        return times


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    answer(Puna(arguments.model, dict(each.split("=", 1) for each in arguments.option)))
