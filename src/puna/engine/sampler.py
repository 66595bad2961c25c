"""Logits -> token ids: a plain function of rows and what each asked for.

It knows no sequences and no batch: a row's token depends on its own logits, parameters, seed,
position and constraint alone, so the company that it has in a batch cannot change it. The one state
that it moves is the constraint's, which is told what was chosen.

Drafts change nothing: a draft's logits are looked at only once all before it was chosen, so each
token is chosen from what it would be chosen from alone.

`_bent` is the one place where logits are changed before a token is chosen, a grammar's mask last.
Log probabilities are those of the model itself, before bias, penalties, mask, temperature and cuts,
as OpenAI gives them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.engine.sequence import Constraint, Emitted, SamplingParams
from puna.errors import EngineFailed
from puna.kernels import argmax

# Sorting the whole vocabulary costs more than all else here, and few rows need it: the likeliest
# token weighs 1, and those above one of these floors mostly suffice.
_FLOORS = (1e-3, 1e-6, -1.0)

# What each byte of a mask adds to eight logits: looked up eight at a time, as the bits unpacked one
# by one take seven times as long.
_OCTETS = torch.tensor(
    [[0.0 if byte >> bit & 1 else -torch.inf for bit in range(8)] for byte in range(256)]
)


@dataclass(frozen=True, slots=True)
class Row:
    """What decides a row's token beside its logits: `counts` of the tokens generated so far, which
    the penalties look at, and `index`, how many they are. `constraint`: what a grammar allows.
    `drafts`: what the rows of logits after its first suppose was chosen."""

    sampling: SamplingParams
    seed: int
    counts: Mapping[int, int]
    index: int
    constraint: Constraint | None = None
    drafts: tuple[int, ...] = ()


def sample(logits: Tensor, rows: Sequence[Row]) -> list[list[Emitted] | Exception]:
    """For each row its next token, and one more for each draft that was chosen; or why there is
    none. `logits` [rows and drafts, vocab] fp32: a row's, then its drafts', then the next row's.

    A row that fails (say, its logits are NaN) leaves the others alone.
    """
    if not rows:
        return []
    best, peaks = argmax(logits)  # the lowest id of those that tie; NaN counts as the greatest
    greedy, healthy = _listed(best), _listed(peaks.isfinite())
    chosen: list[list[Emitted] | Exception] = []
    first = 0
    for row in rows:
        said: list[Emitted] = []
        try:
            for at, draft in enumerate((*row.drafts, None), first):
                if not healthy[at]:
                    raise EngineFailed("the model's logits are not numbers (NaN or infinite)")
                said.append(_choose(logits[at], row, said, greedy[at]))
                if said[-1].token != draft:
                    break
            chosen.append(said)
        except Exception as error:
            # What was chosen before it stands; the next step meets the error again, alone.
            chosen.append(said or error)
        first += 1 + len(row.drafts)
    return chosen


def _choose(logits: Tensor, row: Row, said: Sequence[Emitted], best: int) -> Emitted:
    """`said`: what was chosen for this row before, in this step."""
    sampling = row.sampling
    bent = _bent(logits, row, said)
    if sampling.temperature == 0:
        token = best if bent is logits else int(argmax(bent[None])[0])
    else:
        token = _draw(bent, sampling, uniform(row.seed, row.index + len(said)))
    emitted = Emitted(token)
    if sampling.logprobs:
        emitted = Emitted(token, *_logprobs(logits, token, sampling.top_logprobs))
    if row.constraint is not None:
        row.constraint.accept(token)  # last: what fails above was not chosen
    return emitted


def _logprobs(
    logits: Tensor, token: int, count: int
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """The token's, and the `count` likeliest tokens with theirs."""
    norm = logits.logsumexp(dim=-1)
    values, ids = logits.topk(min(count, len(logits)))
    top = zip(_listed(ids), _listed(values - norm), strict=True)
    return float(logits[token] - norm), tuple(top)


def _bent(logits: Tensor, row: Row, said: Sequence[Emitted]) -> Tensor:
    """Logits [vocab] with the caller's wishes in them; the same tensor if there are none.

    OpenAI's definition: `logit_bias` is added; each token that was generated c times loses
    c · frequency_penalty + presence_penalty.
    """
    sampling = row.sampling
    changes = dict(sampling.logit_bias)
    if sampling.frequency_penalty or sampling.presence_penalty:
        counts = row.counts
        if said:
            counts = Counter(counts)
            counts.update(emitted.token for emitted in said)
        for token, count in counts.items():
            penalty = count * sampling.frequency_penalty + sampling.presence_penalty
            changes[token] = changes.get(token, 0.0) - penalty
    if changes:
        ids = torch.tensor(list(changes), device=logits.device)
        amounts = torch.tensor(list(changes.values()), dtype=logits.dtype, device=logits.device)
        logits = logits.index_add(0, ids, amounts)
    bits = row.constraint.mask() if row.constraint is not None else None
    return logits if bits is None else masked(logits, bits)


def masked(logits: Tensor, bits: Tensor) -> Tensor:
    """Logits [vocab], -inf where `bits` [ceil(vocab / 32)] int32 has no bit: a new tensor."""
    octets = bits.view(torch.uint8).to(logits.device).int()  # the lowest first, as bits are
    return logits + F.embedding(octets, _OCTETS.to(logits.device)).view(-1)[: len(logits)]


def _draw(logits: Tensor, sampling: SamplingParams, u: float) -> int:
    """Temperature, then the `top_k` likeliest, then the fewest of these that reach `top_p`; of what
    is left, the token at `u` of the cumulative probability."""
    weights = ((logits - logits.max()) / sampling.temperature).exp()
    ids: Tensor | None = None
    if sampling.top_k is not None and sampling.top_k < len(weights):
        weights, ids = weights.topk(sampling.top_k)
    if sampling.top_p < 1:
        kept = _nucleus(weights, sampling.top_p)
        weights, ids = weights[kept], kept if ids is None else ids[kept]
    cumulative = weights.double().cumsum(dim=-1)
    place = torch.searchsorted(cumulative, cumulative[-1] * u, right=True)
    index = min(int(place), len(cumulative) - 1)
    return index if ids is None else int(ids[index])


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Which of `weights` are the largest that reach `top_p` of their sum (one at least), in
    descending order."""
    enough = float(weights.sum(dtype=torch.float64)) * top_p
    likely = next(
        above
        for above in ((weights > floor).nonzero()[:, 0] for floor in _FLOORS)
        if len(above) == len(weights) or float(weights[above].sum(dtype=torch.float64)) >= enough
    )
    sorted_weights, order = weights[likely].sort(descending=True, stable=True)
    found = sorted_weights.double()
    before = found.cumsum(dim=-1) - found
    return likely[order[: max(1, int((before < enough).sum()))]]


def _listed(tensor: Tensor) -> list[Any]:
    return cast(Any, tensor).tolist()  # torch's stub leaves the elements' type out


def uniform(seed: int, index: int) -> float:
    """The `index`-th random number of `seed`, in [0, 1): a hash, so that it needs no state and no
    order, and is the same on every machine. Of 48 bits, so that u · total stays below total."""
    data = f"{seed}:{index}".encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=6).digest(), "big") / 2**48
