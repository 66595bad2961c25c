"""The attention twins against a loop over heads and rows that follows the formula."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from puna.kernels import cross_attention, paged_attention, store

PAGE = 16
HEADS = [(64, 8, 8), (64, 32, 8), (80, 6, 2), (80, 5, 1), (128, 8, 1), (128, 24, 8), (24, 7, 7)]
SPANS = [
    pytest.param([(1, 0)], id="first-token"),
    pytest.param([(1, 15), (1, 16), (1, 17)], id="decode-around-a-page-border"),
    pytest.param([(33, 0)], id="whole-prompt"),
    pytest.param([(5, 28), (1, 0), (16, 16), (1, 70), (2, 15)], id="all-sorts"),
]


@dataclass(frozen=True)
class Span:
    start: int
    length: int
    context: int
    pages: Tensor


def naive(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One head of one row, [d], to the keys and values it sees, [n, d], in fp64."""
    scores = keys.double() @ query.double() / math.sqrt(len(query))
    weights = torch.exp(scores - scores.max())
    return ((weights / weights.sum()) @ values.double()).to(query.dtype)


def naive_rows(queries: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """Row r to keys[r], values[r], [n, kv_heads, d]."""
    out = torch.empty_like(queries)
    for row in range(queries.shape[0]):
        group = queries.shape[1] // keys[row].shape[1]
        for head in range(queries.shape[1]):
            seen = keys[row][:, head // group], values[row][:, head // group]
            out[row, head] = naive(queries[row, head], *seen)
    return out


def scattered(
    lengths: list[tuple[int, int]], kv_heads: int, width: int, dtype: torch.dtype = torch.float32
) -> tuple[list[Span], Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Sequences in shuffled pages amid NaNs; returns spans, the cache, and each row's own view."""
    needed = [-(-(length + context) // PAGE) for length, context in lengths]
    order = torch.randperm(sum(needed) + 3)
    keys = torch.full((len(order), PAGE, kv_heads, width), math.nan, dtype=dtype)
    values = keys.clone()
    spans, seen_keys, seen_values, start, taken = [], [], [], 0, 0
    for (length, context), count in zip(lengths, needed, strict=True):
        pages = order[taken : taken + count]
        taken += count
        k, v = torch.randn(2, length + context, kv_heads, width).to(dtype)
        places = torch.arange(length + context)
        slots = pages[places // PAGE] * PAGE + places % PAGE
        store(keys, slots, k)
        store(values, slots, v)
        spans.append(Span(start, length, context, pages))
        start += length
        for row in range(length):
            seen_keys.append(k[: context + row + 1])
            seen_values.append(v[: context + row + 1])
    return spans, keys, values, seen_keys, seen_values


@pytest.mark.parametrize("lengths", SPANS)
@pytest.mark.parametrize(("width", "heads", "kv_heads"), HEADS)
def test_each_row_attends_to_its_own_sequence_up_to_itself_and_to_nothing_else(
    lengths: list[tuple[int, int]], width: int, heads: int, kv_heads: int
) -> None:
    spans, keys, values, seen_keys, seen_values = scattered(lengths, kv_heads, width)
    queries = torch.randn(sum(length for length, _ in lengths), heads, width)
    got = paged_attention(queries, keys, values, spans)
    assert (got - naive_rows(queries, seen_keys, seen_values)).abs().max() <= 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.02), (torch.float16, 3e-3)])
def test_half_precision_attention_is_off_by_its_rounding_only(
    dtype: torch.dtype, tolerance: float
) -> None:
    spans, keys, values, seen_keys, seen_values = scattered([(3, 40), (1, 99)], 2, 64, dtype)
    queries = torch.randn(4, 8, 64).to(dtype)
    got = paged_attention(queries, keys, values, spans)
    assert got.dtype == dtype
    assert (got - naive_rows(queries, seen_keys, seen_values)).abs().max() <= tolerance


def test_scores_too_large_for_half_precision_do_not_overflow() -> None:
    spans, keys, values, *_ = scattered([(2, 30)], 2, 64, torch.float16)
    queries = 3000 * torch.randn(2, 4, 64).half()
    assert paged_attention(queries, 30 * keys, values, spans).isfinite().all()


def test_spare_pages_at_the_end_of_a_span_are_never_read() -> None:
    spans, keys, values, *_ = scattered([(2, 9)], 2, 64)
    queries = torch.randn(2, 4, 64)
    span = spans[0]
    more = Span(span.start, span.length, span.context, torch.cat([span.pages, span.pages.new([2])]))
    one = paged_attention(queries, keys, values, [span])
    assert torch.equal(one, paged_attention(queries, keys, values, [more]))


def test_store_writes_the_named_slots_and_no_other() -> None:
    pages = torch.zeros(5, PAGE, 2, 3)
    rows = torch.randn(3, 2, 3)
    store(pages, torch.tensor([17, 0, 79]), rows)
    assert torch.equal(pages[1, 1], rows[0])
    assert torch.equal(pages[0, 0], rows[1])
    assert torch.equal(pages[4, 15], rows[2])
    assert pages.count_nonzero() == rows.numel()


@pytest.mark.parametrize(("width", "heads", "kv_heads"), HEADS)
def test_cross_attention_runs_see_all_their_sources_under_one_softmax(
    width: int, heads: int, kv_heads: int
) -> None:
    lengths, tokens = [3, 1, 5], [(7,), (4, 9, 1), (13, 2)]
    keys = [[torch.randn(kv_heads, n, width) for n in sources] for sources in tokens]
    values = [[torch.randn(kv_heads, n, width) for n in sources] for sources in tokens]
    queries = torch.randn(sum(lengths), heads, width)
    rows = [run for run, length in enumerate(lengths) for _ in range(length)]
    expected = naive_rows(
        queries,
        [torch.cat(keys[run], dim=1).transpose(0, 1) for run in rows],
        [torch.cat(values[run], dim=1).transpose(0, 1) for run in rows],
    )
    got = cross_attention(queries, lengths, keys, values)
    assert (got - expected).abs().max() <= 1e-5
