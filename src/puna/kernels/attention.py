"""Attention over rows of several sequences: to pages of a cache, to images, to each other.

One idea spares masks and repeated heads: the query heads that share a key head are laid on the
query axis, so grouped-query attention is plain attention with more rows. Softmax is fp32. In native
code all three are one function: runs of rows that read sources of paged keys and values. It knows
no sequences' owners.

Rows are exact or in bulk: those in bulk may be rounded to bf16 where the processor multiplies that
much faster (AMX). What a row gets depends on which it is, and so its caller must not decide by how
many come together.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.kernels.pages import CODES, PAGE, native_for, new_pages, read, store

EVERYTHING = -1  # in place of a run's context: its rows have no order, and see all


class PagedSpan(Protocol):
    """Rows `start .. start + length - 1`: one sequence's tokens at positions `context ..`;
    `pages` [>= ceil((context + length) / page_size)] int64 says where its keys and values lie."""

    @property
    def start(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def pages(self) -> Tensor: ...


class Source(NamedTuple):
    """The first `tokens` keys and values of pages of their own, in order."""

    keys: Tensor
    values: Tensor
    tokens: int


def paged_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    spans: Sequence[PagedSpan],
    exact: int | None = None,
) -> Tensor:
    """Causal attention of ragged rows, each to its own sequence.

    `queries` [rows, heads, head_dim]; `keys` and `values` as in `store`, those of these rows
    included. Spans follow each other and cover all rows; those that begin at row `exact` (None:
    none) or behind it are in bulk. Gives [rows, heads, head_dim].
    """
    kernels = native_for(keys, queries.shape[2], queries)
    if kernels is None:
        return paged_attention_twin(queries, keys, values, spans)
    where = keys.data_ptr(), values.data_ptr()
    return _run(
        kernels,
        queries,
        keys,
        [(span.start, span.length, span.context, i, 1) for i, span in enumerate(spans)],
        [(*where, span.pages.data_ptr(), span.context + span.length) for span in spans],
        exact,
    )


def paged_attention_twin(
    queries: Tensor, keys: Tensor, values: Tensor, spans: Sequence[PagedSpan]
) -> Tensor:
    """The same in plain torch."""
    outputs: list[Tensor] = []
    for span in spans:
        end = span.context + span.length
        k, v = read(keys, values, span.pages[: -(-end // keys.shape[3])], end)
        rows = queries[span.start : span.start + span.length]
        seen = _causal(span, keys.shape[1], queries) if span.length > 1 else None
        outputs.append(_attend(rows, k.to(rows.dtype), v.to(rows.dtype), seen))
    return torch.cat(outputs)


def cross_attention(
    queries: Tensor,
    lengths: Sequence[int],
    sources: Sequence[Sequence[Source]],
    exact: int | None = None,
) -> Tensor:
    """Attention of runs of rows, each to all of its own sources, of one dtype, under one softmax.

    `queries` [rows, heads, head_dim]; run i is the next `lengths[i]` rows and reads `sources[i]`.
    Those that begin at row `exact` (None: none) or behind it are in bulk. Gives [rows, heads,
    head_dim].
    """
    keys = sources[0][0].keys
    kernels = native_for(keys, queries.shape[2], queries)
    if kernels is None:
        return cross_attention_twin(queries, lengths, sources)
    runs: list[tuple[int, ...]] = []
    start = first = 0
    for length, theirs in zip(lengths, sources, strict=True):
        runs.append((start, length, EVERYTHING, first, len(theirs)))
        start, first = start + length, first + len(theirs)
    every = (source for theirs in sources for source in theirs)
    table = [(each.keys.data_ptr(), each.values.data_ptr(), 0, each.tokens) for each in every]
    return _run(kernels, queries, keys, runs, table, exact)


def cross_attention_twin(
    queries: Tensor, lengths: Sequence[int], sources: Sequence[Sequence[Source]]
) -> Tensor:
    """The same in plain torch."""
    outputs: list[Tensor] = []
    start = 0
    for length, theirs in zip(lengths, sources, strict=True):
        rows, start = queries[start : start + length], start + length
        each = [
            read(keys, values, torch.arange(len(keys), device=keys.device), tokens)
            for keys, values, tokens in theirs
        ]
        k = torch.cat([k for k, _ in each], dim=1)
        v = torch.cat([v for _, v in each], dim=1)
        outputs.append(_attend(rows, k.to(rows.dtype), v.to(rows.dtype), None))
    return torch.cat(outputs)


def padded_attention(
    queries: Tensor, k: Tensor, v: Tensor, real: Tensor, dtype: torch.dtype
) -> Tensor:
    """Attention of all tokens of an image to each other, but for padding, which sees none of its
    own kind (and is seen by all others).

    `queries`, `k`, `v` [images, tokens, heads, head_dim], `real` [images, tokens] bool: no padding.
    Natively, keys and values pass through pages of `dtype`, and all is in bulk. Gives what
    `queries` are.
    """
    images, tokens, heads, width = queries.shape
    pages = -(-tokens // PAGE)
    native = queries.is_cpu and dtype in CODES and width % 16 == 0
    keys, values = new_pages(pages if native else 0, heads, width, PAGE, dtype, queries.device)
    if native_for(keys, width, queries, k, v) is None:
        return padded_attention_twin(queries, k, v, real)
    outputs: list[Tensor] = []
    for image in range(images):
        mine = real[image]
        count = int(mine.sum())
        # Real tokens come first: so what padding sees is the beginning of what all others see.
        place = torch.where(mine, mine.cumsum(0) - 1, count + (~mine).cumsum(0) - 1)
        store(keys, values, place, k[image], v[image])
        kinds = [bool(each) for each in mine]
        ends = [0, *(i for i in range(1, tokens) if kinds[i] != kinds[i - 1]), tokens]
        lengths = [end - start for start, end in pairwise(ends)]
        seen = [tokens if kinds[start] else count for start in ends[:-1]]
        sources = [[Source(keys, values, each)] for each in seen]
        outputs.append(cross_attention(queries[image], lengths, sources, exact=0))
    return torch.stack(outputs)


def padded_attention_twin(queries: Tensor, k: Tensor, v: Tensor, real: Tensor) -> Tensor:
    """The same in plain torch."""
    mask = (real[:, :, None] | real[:, None, :]).unsqueeze(1)
    q, k, v = (each.transpose(1, 2) for each in (queries, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def _run(
    kernels: CDLL,
    queries: Tensor,
    keys: Tensor,
    runs: Sequence[tuple[int, ...]],
    sources: Sequence[tuple[int, ...]],
    exact: int | None,
) -> Tensor:
    """`runs` and `sources` as `puna_attention` wants them."""
    queries, run_table, source_table = (
        queries.contiguous(),
        torch.tensor(runs),
        torch.tensor(sources),
    )
    out = torch.empty_like(queries)
    kernels.puna_attention(
        queries.data_ptr(),
        CODES[keys.dtype],
        run_table.data_ptr(),
        len(runs),
        source_table.data_ptr(),
        len(sources),
        queries.shape[1],
        keys.shape[1],
        queries.shape[2],
        len(queries) if exact is None else exact,
        out.data_ptr(),
    )
    return out


def _attend(queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
    """[n, heads, d] to [kv_heads, tokens, d]; `seen` [group * n, tokens] bool."""
    rows, heads, width = queries.shape
    kv_heads = keys.shape[0]
    folded = queries.view(rows, kv_heads, heads // kv_heads, width).permute(1, 2, 0, 3)
    attended = F.scaled_dot_product_attention(
        folded.reshape(1, kv_heads, -1, width), keys[None], values[None], attn_mask=seen
    )
    unfolded = attended.view(kv_heads, heads // kv_heads, rows, width).permute(2, 0, 1, 3)
    return unfolded.reshape(rows, heads, width)


def _causal(span: PagedSpan, kv_heads: int, queries: Tensor) -> Tensor:
    """Which keys each folded row sees: all up to its own position."""
    device = queries.device
    own = torch.arange(span.context, span.context + span.length, device=device)
    key = torch.arange(span.context + span.length, device=device)
    return (key <= own[:, None]).repeat(queries.shape[1] // kv_heads, 1)
