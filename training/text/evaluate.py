"""Greedy generation with a finished checkpoint, through Puna's engine, on the held-out sets.

A set has three kinds of difficulty: names that training never shows, wordings that it never shows,
and both. Exact match means all ids of the answer, its end included.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from puna.engine.engine import Engine, EngineLimits
from puna.engine.sequence import Emitted, Outcome, Prompt, SamplingParams
from puna.llama.cache import KVCache
from puna.llama.load import load_llama
from puna.llama.packing import Packing
from puna.llama.weights import open_checkpoint
from training.text.batches import Encoder
from training.text.documents import TASKS, sample

PAGE_SIZE, PAGES = 16, 2048


@dataclass(frozen=True)
class Case:
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def held_out(
    encode: Encoder, task: str, count: int, names: bool = True, words: bool = True, seed: int = 2026
) -> list[Case]:
    """Distinct documents of a task on the held-out side. The seed is not the training's."""
    rng = Random(f"evaluation/{seed}/{task}/{names}/{words}")
    cases: dict[tuple[int, ...], Case] = {}
    for _ in range(20 * count):
        ids, _, prompt = encode(sample(task, rng, names, words, single=True))
        cases.setdefault(tuple(ids[:prompt]), Case(tuple(ids[:prompt]), tuple(ids[prompt:])))
        if len(cases) == count:
            break
    return list(cases.values())


class Generator:
    """A checkpoint in Puna's engine: prompts in, greedy answers out."""

    def __init__(
        self,
        path: Path,
        dtype: torch.dtype = torch.float32,
        packing: Packing | None = None,
        cache_dtype: torch.dtype | None = None,
    ):
        checkpoint = open_checkpoint(path)
        config = checkpoint.config
        self.stops = frozenset(config.eos_token_ids)
        self.model = load_llama(checkpoint, dtype=dtype, packing=packing)
        kept = cache_dtype or (torch.bfloat16 if packing else dtype)
        cache = KVCache(config, PAGES, PAGE_SIZE, kept)
        limits = EngineLimits(4096, PAGES, PAGE_SIZE, max_queue=100_000)
        self.engine = Engine(self.model, cache, limits)

    def __call__(self, prompts: list[tuple[int, ...]], max_tokens: int) -> list[list[int]]:
        answers: list[list[int]] = [[] for _ in prompts]

        def outbox(answer: list[int]):
            def say(outcome: Outcome) -> None:
                if isinstance(outcome, Exception):
                    raise outcome
                if isinstance(outcome, Emitted):
                    answer.append(outcome.token)

            return say

        sampling = SamplingParams(max_tokens, self.stops, temperature=0.0)
        for prompt, answer in zip(prompts, answers, strict=True):
            self.engine.submit(Prompt(prompt), sampling, outbox(answer))
        while self.engine.step():
            pass
        return answers


def accuracy(generate: Generator, cases: list[Case]) -> tuple[float, list[tuple[Case, list[int]]]]:
    """The share of exact answers, and the misses with what came instead."""
    longest = max(len(case.answer) for case in cases)
    answers = generate([case.prompt for case in cases], longest + 4)
    pairs = zip(cases, answers, strict=True)
    misses = [(case, answer) for case, answer in pairs if tuple(answer) != case.answer]
    return 1 - len(misses) / len(cases), misses


def evaluate(path: Path, count: int, show: int = 3) -> None:
    """Prints a line for each task: names and wordings both held out, then each, then neither."""
    torch.set_num_threads(1)
    encode = Encoder(path / "tokenizer.json")
    generate = Generator(path)
    text = encode.tokenizer.decode
    for task in (name for name in TASKS if name != "copy"):
        shares: list[str] = []
        misses: list[tuple[Case, list[int]]] = []
        for names, words in ((False, False), (False, True), (True, False), (True, True)):
            cases = held_out(encode, task, count if names and words else count // 4, names, words)
            share, misses = accuracy(generate, cases)
            shares.append(f"{100 * share:.1f} % of {len(cases)}")
        both, held_names, held_words, seen = reversed(shares)
        print(f"{task}: held-out names and wordings {both}", end="; ")
        print(f"names {held_names}, wordings {held_words}, neither {seen}", flush=True)
        for case, answer in misses[:show]:
            asked = text(list(case.prompt), skip_special_tokens=False)[-160:]
            print(f"    ...{asked!r}\n    wanted {text(list(case.answer))!r}")
            print(f"    got    {text(answer)!r}")
