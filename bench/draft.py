"""Decode of the 8B shape with a 1B model that drafts for it, and without: what `--draft` gains.

    python -m bench.draft [--right 0.8 0.6] [--rounds 5]

Random weights agree about nothing, so a text is given as in `bench.repeats`: both models of the
true shapes compute every row, and then the story's next token is made the likeliest, for the small
model only at a given share of the places and at the others a wrong one. So what drafting costs is
real, and how often it is right is what each row says: how often a real 1B agrees with a real 8B is
not measured here. The story repeats nothing, so nothing is guessed from the prompt. Each round
begins without experience, and the small model reads the prompt within it.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from bench.loading import loaded, terms
from bench.repeats import PAGE_SIZE, Replayed, read, seconds
from bench.rows import PUNA, Row, record
from puna.engine.draft_model import DraftModel
from puna.engine.engine import Engine, EngineLimits
from puna.engine.speculation import Speculation
from puna.kernels import native
from puna.llama.cache import KVCache

CONTEXT = 512
PAGES = CONTEXT // PAGE_SIZE


class Agreeing(Replayed):
    """Says `text`, but at a share of the places, always the same ones, another token."""

    def say(self, text: Tensor, right: float) -> None:
        wrong = torch.rand(len(text), generator=torch.Generator().manual_seed(0)) >= right
        self.text = torch.where(wrong, text + 1, text)


def main() -> None:
    parser = argparse.ArgumentParser(description="1B drafts for 8B")
    parser.add_argument("--right", type=float, nargs="+", default=[0.8, 0.6], help="share")
    parser.add_argument("--threads", type=int, default=native.processors())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48, help="of the story, at most")
    options = parser.parse_args()
    print(terms(options.threads, "8B"), flush=True)
    (llama, source), (little, draft) = loaded(options.threads, "8B"), loaded(options.threads)
    large, small = Replayed(llama), Agreeing(little)
    prompt, answer = read("story", source.tokenizer(), options.tokens)
    large.text = torch.tensor([*prompt, *answer])
    cache, small_cache = (
        KVCache(each.config, PAGES, PAGE_SIZE, torch.bfloat16) for each in (source, draft)
    )
    engine = Engine(large, cache, EngineLimits(CONTEXT, PAGES, PAGE_SIZE))
    seconds(engine, prompt, answer[:2])  # the prompt, which is reused from now on

    def rate(drafter: DraftModel | None) -> tuple[float, float]:
        """Tokens a second, and tokens a step."""
        engine._speculation = Speculation(drafter) if drafter else None
        spent, steps = seconds(engine, prompt, answer)
        return (len(answer) - 1) / spent, (len(answer) - 1) / steps

    plain: list[float] = []
    drafted: dict[float, list[tuple[float, float]]] = {right: [] for right in options.right}
    for _ in range(options.rounds):
        plain.append(rate(None)[0])
        for right, told in drafted.items():
            small.say(large.text, right)
            told.append(rate(DraftModel(small, small_cache, page_size=PAGE_SIZE)))
    for right, told in drafted.items():
        steps = ", ".join(f"{a_step:.2f}" for _, a_step in told)
        print(f"{right:.0%} right: {steps} tokens a step")
        rates = {PUNA: [each for each, _ in told], "Puna, alone": plain}
        record([Row("draft", f"8B, 1B drafting, {right:.0%} right", rates)])


if __name__ == "__main__":
    main()
