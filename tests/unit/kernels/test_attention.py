"""Attention, native and twin, against a loop over heads and rows that follows the formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from puna.kernels import cross_attention, paged_attention, store
from puna.kernels.attention import paged_attention_twin, store_twin

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
    keys = torch.full((len(order), kv_heads, width, PAGE), math.nan, dtype=dtype)
    values = keys.transpose(2, 3).contiguous()
    spans, seen_keys, seen_values, start, taken = [], [], [], 0, 0
    for (length, context), count in zip(lengths, needed, strict=True):
        pages = order[taken : taken + count]
        taken += count
        k, v = torch.randn(2, length + context, kv_heads, width).to(dtype)
        places = torch.arange(length + context)
        slots = pages[places // PAGE] * PAGE + places % PAGE
        with torch.inference_mode():
            store(keys, values, slots, k, v)
        spans.append(Span(start, length, context, pages))
        start += length
        for row in range(length):
            seen_keys.append(k[: context + row + 1])
            seen_values.append(v[: context + row + 1])
    return spans, keys, values, seen_keys, seen_values


@pytest.mark.parametrize("attend", [paged_attention, paged_attention_twin])
@pytest.mark.parametrize("lengths", SPANS)
@pytest.mark.parametrize(("width", "heads", "kv_heads"), HEADS)
def test_each_row_attends_to_its_own_sequence_up_to_itself_and_to_nothing_else(
    lengths: list[tuple[int, int]],
    width: int,
    heads: int,
    kv_heads: int,
    attend: Callable[..., Tensor],
) -> None:
    spans, keys, values, seen_keys, seen_values = scattered(lengths, kv_heads, width)
    queries = torch.randn(sum(length for length, _ in lengths), heads, width)
    with torch.inference_mode():
        got = attend(queries, keys, values, spans)
    assert (got - naive_rows(queries, seen_keys, seen_values)).abs().max() <= 1e-5


@torch.inference_mode()
def test_native_attention_over_a_bf16_cache_is_the_twin_on_the_same_cache() -> None:
    spans, keys, values, *_ = scattered([(3, 150), (1, 99)], 2, 64, torch.bfloat16)
    queries = torch.randn(4, 8, 64)
    got = paged_attention(queries, keys, values, spans)
    assert got.dtype == torch.float32
    assert (got - paged_attention_twin(queries, keys, values, spans)).abs().max() <= 1e-5


@torch.inference_mode()
def test_a_row_attends_alike_whoever_else_is_in_the_batch() -> None:
    spans, keys, values, *_ = scattered([(40, 30), (1, 99), (7, 0)], 2, 64)
    queries = torch.randn(48, 6, 64)
    together = paged_attention(queries, keys, values, spans)
    for span in spans:
        for row in range(span.length):
            alone = Span(0, 1, span.context + row, span.pages)
            at = span.start + row
            got = paged_attention(queries[at : at + 1], keys, values, [alone])
            assert torch.equal(got[0], together[at])


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("write", [store, store_twin])
@torch.inference_mode()
def test_store_writes_the_named_slots_and_no_other(
    dtype: torch.dtype, write: Callable[..., None]
) -> None:
    keys, values = (
        torch.zeros(5, 2, 32, PAGE, dtype=dtype),
        torch.zeros(5, 2, PAGE, 32, dtype=dtype),
    )
    k, v = torch.randn(2, 3, 2, 32)
    write(keys, values, torch.tensor([17, 0, 79]), k, v)
    for row, (page, place) in enumerate([(1, 1), (0, 0), (4, 15)]):
        assert torch.equal(keys[page, :, :, place], k[row].to(dtype))
        assert torch.equal(values[page, :, place], v[row].to(dtype))
    assert keys.count_nonzero() == values.count_nonzero() == k.numel()


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
