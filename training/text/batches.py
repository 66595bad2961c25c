"""Batches: documents as ids, targets and weights, packed end to end.

A batch is a function of seed and step alone.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.text.documents import sample
from training.text.prompt import ANSWER, Document

TOKENIZER = Path(__file__).parents[2] / "src/puna/cria/text/tokenizer.json"


class Encoder:
    def __init__(self, path: Path = TOKENIZER):
        self.tokenizer = Tokenizer.from_file(str(path))
        self.vocab_size = self.tokenizer.token_to_id("<|image|>")
        self._encode = lru_cache(20_000)(self._fresh)

    def _fresh(self, text: str) -> list[int]:
        # Special tokens' names inside text stay text, as in Puna.
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def __call__(self, doc: Document) -> tuple[list[int], list[float], int]:
        """Ids, each one's weight as a target, and how many ids the prompt has."""
        ids: list[int] = []
        weights: list[float] = []
        prompt = 0
        for i, (text, weight, special) in enumerate(doc.segments):
            if i == doc.answer_at:
                prompt = len(ids)
            piece = [self.tokenizer.token_to_id(text)] if special else self._encode(text)
            ids += piece
            weights += [weight] * len(piece)
        return ids, weights, prompt


def batch(
    encode: Encoder,
    mix: dict[str, float],
    seed: int,
    step: int,
    tokens: int,
    make: Callable = sample,
) -> tuple[Tensor, list[int], Tensor, Tensor, Tensor]:
    """ids (tokens,), lengths, places whose next id is learned, those ids, their weights.

    Tasks are drawn by their share of documents; what does not fit is drawn again a few times.
    """
    rng = Random(f"{seed}/{step}")
    ids: list[int] = []
    weights: list[float] = []
    lengths: list[int] = []
    misses = 0
    names, shares = list(mix), list(mix.values())
    while misses < 6:
        new, w, _ = encode(make(rng.choices(names, shares)[0], rng))
        if len(ids) + len(new) > tokens:
            misses += 1
            continue
        ids += new
        # A third of what only helps is enough, and the head costs a fifth of a step.
        weights += [x if x == ANSWER or rng.random() < 0.33 else 0.0 for x in w[1:]] + [0.0]
        lengths.append(len(new))
    if gap := tokens - len(ids):
        ids += [0] * gap
        weights += [0.0] * gap
        lengths.append(gap)
    row, weight = torch.tensor(ids), torch.tensor(weights)
    wanted = weight.nonzero()[:, 0]
    return row, lengths, wanted, row.roll(-1)[wanted], weight[wanted]
