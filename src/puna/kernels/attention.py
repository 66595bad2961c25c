"""Attention over rows of several sequences: through pages of a cache, and to given keys.

One idea spares masks and repeated heads: the query heads that share a key head are laid on the
query axis, so grouped-query attention is plain attention with more rows. Softmax is fp32 inside
torch's fused attention. It knows no sequences' owners and allocates no cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


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


def store(pages: Tensor, slots: Tensor, rows: Tensor) -> None:
    """Write `rows` [rows, heads, head_dim] into `pages` [num_pages, page_size, heads, head_dim], in
    place; slot s is page s // page_size, place s % page_size."""
    pages.flatten(0, 1).index_copy_(0, slots, rows)


def paged_attention(
    queries: Tensor, keys: Tensor, values: Tensor, spans: Sequence[PagedSpan]
) -> Tensor:
    """Causal attention of ragged rows, each to its own sequence.

    `queries` [rows, heads, head_dim]; `keys`, `values` [num_pages, page_size, kv_heads, head_dim],
    those of these rows included. Spans follow each other and cover all rows. Gives
    [rows, heads, head_dim].
    """
    outputs: list[Tensor] = []
    for span in spans:
        end = span.context + span.length
        pages = span.pages[: -(-end // keys.shape[1])]
        seen = _causal(span, keys.shape[2], queries) if span.length > 1 else None
        outputs.append(
            _attend(
                queries[span.start : span.start + span.length],
                _gathered(keys, pages, end),
                _gathered(values, pages, end),
                seen,
            )
        )
    return torch.cat(outputs)


def cross_attention(
    queries: Tensor,
    lengths: Sequence[int],
    keys: Sequence[Sequence[Tensor]],
    values: Sequence[Sequence[Tensor]],
) -> Tensor:
    """Attention of runs of rows, each to all of its own given keys.

    `queries` [rows, heads, head_dim]; run i is the next `lengths[i]` rows; `keys[i]`, `values[i]`:
    its sources, each [kv_heads, tokens, head_dim], under one softmax. Gives
    [rows, heads, head_dim].
    """
    outputs: list[Tensor] = []
    start = 0
    for length, sources, theirs in zip(lengths, keys, values, strict=True):
        rows = queries[start : start + length]
        outputs.append(_attend(rows, _joined(sources), _joined(theirs), None))
        start += length
    return torch.cat(outputs)


def _gathered(cache: Tensor, pages: Tensor, tokens: int) -> Tensor:
    # `index_select` copies page by page: `cache[pages]` takes five times as long.
    return cache.index_select(0, pages).flatten(0, 1)[:tokens].transpose(0, 1)


def _joined(sources: Sequence[Tensor]) -> Tensor:
    return sources[0] if len(sources) == 1 else torch.cat(tuple(sources), dim=1)


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
