"""Attention over rows of several sequences: through pages of a cache, and to given keys.

One idea spares masks and repeated heads: the query heads that share a key head are laid on the
query axis, so grouped-query attention is plain attention with more rows. Softmax is fp32 inside
torch's fused attention. It knows no sequences' owners and allocates no cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL
from itertools import accumulate
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.kernels import native

PAGE = 16  # tokens a page, in the native kernels

_CACHE_TYPES = {torch.float32: 0, torch.bfloat16: 1}


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


def store(keys: Tensor, values: Tensor, slots: Tensor, k: Tensor, v: Tensor) -> None:
    """Write rows `k`, `v` [rows, kv_heads, head_dim] into the pages `keys` [num_pages, kv_heads,
    head_dim, page_size] and `values` [num_pages, kv_heads, page_size, head_dim], in place: slot s
    is page s // page_size, place s % page_size. Keys lie head_dim first, so that a page of them is
    one vector for each feature."""
    kernels = _native(keys, k, v)
    if kernels is None:
        store_twin(keys, values, slots, k, v)
        return
    k, v, slots = k.contiguous(), v.contiguous(), slots.contiguous()
    kernels.puna_store(
        _CACHE_TYPES[keys.dtype],
        keys.data_ptr(),
        values.data_ptr(),
        slots.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        *k.shape,
    )


def store_twin(keys: Tensor, values: Tensor, slots: Tensor, k: Tensor, v: Tensor) -> None:
    """The same in plain torch."""
    page_size = values.shape[2]
    pages, places = slots // page_size, slots % page_size
    keys[pages, :, :, places] = k.to(keys.dtype)
    values[pages, :, places] = v.to(values.dtype)


def paged_attention(
    queries: Tensor, keys: Tensor, values: Tensor, spans: Sequence[PagedSpan]
) -> Tensor:
    """Causal attention of ragged rows, each to its own sequence.

    `queries` [rows, heads, head_dim]; `keys` and `values` as in `store`, those of these rows
    included. Spans follow each other and cover all rows. Gives [rows, heads, head_dim].
    """
    kernels = _native(keys, queries)
    if kernels is None:
        return paged_attention_twin(queries, keys, values, spans)
    counts = [-(-(span.context + span.length) // PAGE) for span in spans]
    table = torch.tensor(
        (
            [span.start for span in spans],
            [span.length for span in spans],
            [span.context for span in spans],
            [0, *accumulate(counts[:-1])],
        )
    )
    pages = torch.cat([span.pages[:count] for span, count in zip(spans, counts, strict=True)])
    queries = queries.contiguous()
    out = torch.empty_like(queries)
    kernels.puna_attention(
        queries.data_ptr(),
        _CACHE_TYPES[keys.dtype],
        keys.data_ptr(),
        values.data_ptr(),
        len(spans),
        *(row.data_ptr() for row in table),
        pages.data_ptr(),
        queries.shape[1],
        *keys.shape[1:3],
        out.data_ptr(),
    )
    return out


def paged_attention_twin(
    queries: Tensor, keys: Tensor, values: Tensor, spans: Sequence[PagedSpan]
) -> Tensor:
    """The same in plain torch."""
    outputs: list[Tensor] = []
    for span in spans:
        end = span.context + span.length
        pages = span.pages[: -(-end // keys.shape[3])]
        seen = _causal(span, keys.shape[1], queries) if span.length > 1 else None
        # `index_select` copies page by page: `keys[pages]` takes five times as long.
        k = keys.index_select(0, pages).permute(1, 0, 3, 2).flatten(1, 2)[:, :end]
        v = values.index_select(0, pages).transpose(0, 1).flatten(1, 2)[:, :end]
        rows = queries[span.start : span.start + span.length]
        outputs.append(_attend(rows, k.to(rows.dtype), v.to(rows.dtype), seen))
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
        k, v = _joined(sources).to(rows.dtype), _joined(theirs).to(rows.dtype)
        outputs.append(_attend(rows, k, v, None))
        start += length
    return torch.cat(outputs)


def _native(keys: Tensor, *rows: Tensor) -> CDLL | None:
    fits = keys.shape[2] % 16 == 0 and keys.shape[3] == PAGE and keys.dtype in _CACHE_TYPES
    return native.for_tensors(*rows) if fits and keys.is_cpu else None


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
