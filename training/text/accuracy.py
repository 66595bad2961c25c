"""Exact match on held-out sets: names, function names and wordings that training never shows.

`teacher_forced` is the quick measure while training: every token of the answer is the argmax.
"""

from random import Random

import torch
from torch import nn

from training.text.batches import Encoder
from training.text.documents import TASKS, sample


def held_out(encode: Encoder, task: str, count: int, seed: int = 77) -> list[tuple[list[int], int]]:
    """(ids, prompt length) of documents on the held-out side in names and wordings."""
    rng = Random(f"held-out/{seed}/{task}")
    out = []
    for _ in range(count):
        ids, _, prompt = encode(sample(task, rng, held_names=True, held_words=True, single=True))
        out.append((ids, prompt))
    return out


@torch.no_grad()
def teacher_forced(
    model: nn.Module, documents: list[tuple[list[int], int]], tokens: int = 4096
) -> list[bool]:
    """For each document: is every token of its answer the most likely one?"""
    right: list[bool] = []
    at = 0
    while at < len(documents):
        ids: list[int] = []
        lengths: list[int] = []
        spans: list[tuple[int, int]] = []
        while at < len(documents) and (not ids or len(ids) + len(documents[at][0]) <= tokens):
            new, prompt = documents[at]
            spans.append((len(ids) + prompt - 1, len(ids) + len(new) - 1))
            ids += new
            lengths.append(len(new))
            at += 1
        row = torch.tensor(ids)
        wanted = torch.cat([torch.arange(a, b) for a, b in spans])
        hit = model(row, lengths, wanted).argmax(-1) == row[wanted + 1]
        right += [bool(h.all()) for h in hit.split([b - a for a, b in spans])]
    return right


def report(
    model: nn.Module, encode: Encoder, count: int = 150, tasks: list[str] | None = None
) -> dict[str, float]:
    tasks = tasks or [t for t in TASKS if t != "copy"]
    result = {}
    for task in tasks:
        hits = teacher_forced(model, held_out(encode, task, count))
        result[task] = round(100 * sum(hits) / len(hits), 1)
    return result
