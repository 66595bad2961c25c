"""Attention, native and twin, against a loop over rows that follows the formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from puna.kernels import (
    PAGE,
    Source,
    cross_attention,
    native,
    new_pages,
    padded_attention,
    paged_attention,
    store,
)
from puna.kernels.attention import cross_attention_twin, paged_attention_twin
from puna.kernels.pages import read, store_twin

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
    """One row, [kv_heads, group, d], to the keys and values it sees, [n, kv_heads, d], in fp64."""
    scores = torch.einsum("kgd,nkd->kgn", query.double(), keys.double())
    weights = torch.exp((scores - scores.amax(-1, keepdim=True)) / math.sqrt(query.shape[-1]))
    seen = torch.einsum("kgn,nkd->kgd", weights, values.double())
    return (seen / weights.sum(-1, keepdim=True)).to(query.dtype)


def naive_rows(queries: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """Row r to keys[r], values[r], [n, kv_heads, d]."""
    return torch.stack(
        [
            naive(query.unflatten(0, (k.shape[1], -1)), k, v).flatten(0, 1)
            for query, k, v in zip(queries, keys, values, strict=True)
        ]
    )


def scattered(
    lengths: list[tuple[int, int]], kv_heads: int, width: int, dtype: torch.dtype = torch.float32
) -> tuple[list[Span], Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Sequences in shuffled pages amid NaNs; returns spans, the cache, and each row's own view."""
    needed = [-(-(length + context) // PAGE) for length, context in lengths]
    order = torch.randperm(sum(needed) + 3)
    keys, values = new_pages(len(order), kv_heads, width, PAGE, dtype)
    for tensor in (keys, values):
        tensor.view(torch.uint8).fill_(0xFF)  # a NaN in every float
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


@pytest.mark.parametrize(("width", "heads", "kv_heads"), HEADS)
@torch.inference_mode()
def test_8_bit_keys_and_values_move_what_is_attended_to_by_their_rounding_only(
    width: int, heads: int, kv_heads: int
) -> None:
    """0.02 for values of unit size: two bits more than that would give 0.08."""
    lengths = [(5, 28), (1, 0), (20, 1010), (1, 2300)]
    spans, keys, values, seen_keys, seen_values = scattered(lengths, kv_heads, width, torch.int8)
    queries = torch.randn(sum(length for length, _ in lengths), heads, width)
    got = paged_attention(queries, keys, values, spans)
    assert (got - naive_rows(queries, seen_keys, seen_values)).abs().max() <= 0.02
    assert (got - paged_attention_twin(queries, keys, values, spans)).abs().max() <= 2e-4


@torch.inference_mode()
def test_a_flat_tail_of_an_8_bit_cache_keeps_its_weight_beside_one_large_score() -> None:
    """4095 tokens of a weight of 1e-5 each: rounded beside the largest they would all be lost."""
    keys, values = new_pages(256, 1, 16, PAGE, torch.int8)
    k, v = torch.zeros(2, 4096, 1, 16)
    k[0, 0, 0], v[1:] = 1, 1
    store(keys, values, torch.arange(4096), k, v)
    query = torch.zeros(1, 1, 16)
    query[0, 0, 0] = 4 * math.log(1e5)
    got = paged_attention(query, keys, values, [Span(0, 1, 4095, torch.arange(256))])
    expected = 4095e-5 / (1 + 4095e-5)
    assert (got - expected).abs().max() <= 0.01 * expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@torch.inference_mode()
def test_attention_gives_the_same_bits_alone_in_company_and_on_any_number_of_threads(
    dtype: torch.dtype,
) -> None:
    spans, keys, values, *_ = scattered([(70, 1500), (1, 5000), (3, 1022), (7, 0)], 2, 64, dtype)
    queries = torch.randn(81, 6, 64)
    together = paged_attention(queries, keys, values, spans)
    for span in spans:
        for row in range(0, span.length, 13):
            at = span.start + row
            alone = Span(0, 1, span.context + row, span.pages)
            got = paged_attention(queries[at : at + 1], keys, values, [alone])
            assert torch.equal(got[0], together[at])
    kernels = native.library()
    if kernels is None:
        return
    try:
        for threads in (1, 3):
            kernels.puna_threads(threads)
            assert torch.equal(paged_attention(queries, keys, values, spans), together)
    finally:
        kernels.puna_threads(native.processors())


def as_in_bulk(queries: Tensor) -> Tensor:
    """Queries that lose nothing where rows in bulk are rounded: what is left are the weights."""
    scale = math.log2(math.e) / math.sqrt(queries.shape[-1])
    return (queries * scale).bfloat16().float() / scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("lengths", [*SPANS, [(70, 1500), (3, 1022), (300, 0), (1, 300)]])
@pytest.mark.parametrize(("width", "heads", "kv_heads"), HEADS)
@torch.inference_mode()
def test_rows_in_bulk_are_off_by_half_a_step_of_bf16_in_each_weight_at_most(
    lengths: list[tuple[int, int]], width: int, heads: int, kv_heads: int, dtype: torch.dtype
) -> None:
    spans, keys, values, *_ = scattered(lengths, kv_heads, width, dtype)
    queries = as_in_bulk(2 * torch.randn(sum(length for length, _ in lengths), heads, width))
    got = paged_attention(queries, keys, values, spans, exact=0)
    expected = paged_attention_twin(queries, keys, values, spans)
    largest = (
        5.5 if dtype == torch.int8 else paged_attention_twin(queries, keys, values.abs(), spans)
    )
    assert ((got - expected).abs() <= 2**-8 * largest + 3e-4).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
@torch.inference_mode()
def test_a_row_in_bulk_gives_the_same_bits_in_company_in_pieces_and_on_any_number_of_threads(
    dtype: torch.dtype,
) -> None:
    spans, keys, values, *_ = scattered([(1, 700), (170, 1500), (3, 1022), (80, 0)], 2, 80, dtype)
    queries = torch.randn(254, 6, 80)
    together = paged_attention(queries, keys, values, spans, exact=1)
    first = paged_attention(queries[:1], keys, values, spans[:1])
    assert torch.equal(together[:1], first)
    for span in spans[1:]:
        for start, end in ((0, 1), (0, 37), (37, 38), (38, span.length)):
            row, end = span.start + start, span.start + min(end, span.length)
            if row >= end:
                continue
            piece = Span(0, end - row, span.context + start, span.pages)
            got = paged_attention(queries[row:end], keys, values, [piece], exact=0)
            assert torch.equal(got, together[row:end])
    kernels = native.library()
    if kernels is None:
        return
    try:
        for threads in (1, 3):
            kernels.puna_threads(threads)
            assert torch.equal(paged_attention(queries, keys, values, spans, exact=1), together)
    finally:
        kernels.puna_threads(native.processors())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
@torch.inference_mode()
def test_a_query_in_bulk_that_is_no_number_spoils_itself_alone(dtype: torch.dtype) -> None:
    spans, keys, values, *_ = scattered([(40, 30)], 2, 64, dtype)
    queries = torch.randn(40, 6, 64)
    good = paged_attention(queries, keys, values, spans, exact=0)
    for bad in (torch.nan, torch.inf):
        spoiled = queries.clone()
        spoiled[7, 3, 5] = bad
        got = paged_attention(spoiled, keys, values, spans, exact=0)
        assert not got[7, 3].isfinite().any()
        got[7, 3] = good[7, 3]
        assert torch.equal(got, good)


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


@pytest.mark.parametrize("write", [store, store_twin])
@torch.inference_mode()
def test_8_bit_store_rounds_each_head_of_a_token_to_127_steps_of_its_largest(
    write: Callable[..., None],
) -> None:
    keys, values = new_pages(5, 2, 32, PAGE, torch.int8)
    slots = torch.tensor([17, 0, 79, 24])
    k, v = torch.randn(2, 4, 2, 32) * torch.logspace(-8, 8, 4).view(4, 1, 1)
    k[1, 0] = v[2, 1] = 0
    write(keys, values, slots, k, v)
    for got, row in zip(read(keys, values, torch.arange(5), 80), (k, v), strict=True):
        step = row.abs().amax(-1, keepdim=True) / 127
        off = (got.transpose(0, 1)[slots] - row).abs()
        assert (off <= 0.51 * 1.01 * step).all()
        assert off.max() > 0


@torch.inference_mode()
def test_8_bit_store_and_its_twin_write_the_same_bytes() -> None:
    k, v = torch.randn(2, 40, 3, 64)
    one, other = torch.zeros(2, 2, 4, 3, 66, PAGE, dtype=torch.int8)
    slots = torch.randperm(64)[:40]
    store(one[0], one[1], slots, k, v)
    store_twin(other[0], other[1], slots, k, v)
    assert torch.equal(one, other)


def pages_of(k: Tensor, v: Tensor, dtype: torch.dtype) -> Source:
    """`k`, `v` [tokens, kv_heads, d] in pages of their own."""
    tokens, kv_heads, width = k.shape
    keys, values = new_pages(-(-tokens // PAGE), kv_heads, width, PAGE, dtype)
    with torch.inference_mode():
        store(keys, values, torch.arange(tokens), k, v)
    return Source(keys, values, tokens)


@pytest.mark.parametrize("attend", [cross_attention, cross_attention_twin])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02), (torch.int8, 0.03)]
)
@pytest.mark.parametrize(("width", "heads", "kv_heads"), HEADS)
@torch.inference_mode()
def test_cross_attention_runs_see_all_their_sources_under_one_softmax(
    width: int,
    heads: int,
    kv_heads: int,
    dtype: torch.dtype,
    tolerance: float,
    attend: Callable[..., Tensor],
) -> None:
    lengths, tokens = [3, 1, 20], [(7,), (4, 1100, 1), (13, 32)]
    k = [[torch.randn(n, kv_heads, width) for n in sources] for sources in tokens]
    v = [[torch.randn(n, kv_heads, width) for n in sources] for sources in tokens]
    sources = [
        [pages_of(*each, dtype) for each in zip(*both, strict=True)]
        for both in zip(k, v, strict=True)
    ]
    queries = torch.randn(sum(lengths), heads, width)
    rows = [run for run, length in enumerate(lengths) for _ in range(length)]
    expected = naive_rows(
        queries, [torch.cat(k[run]) for run in rows], [torch.cat(v[run]) for run in rows]
    )
    got = attend(queries, lengths, sources)
    assert (got - expected).abs().max() <= tolerance
    in_bulk = cross_attention(queries, lengths, sources, exact=lengths[0])
    assert torch.equal(
        in_bulk[: lengths[0]], cross_attention(queries, lengths, sources)[: lengths[0]]
    )
    assert (in_bulk - expected).abs().max() <= tolerance + (dtype != torch.float32) * 0.02


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03), (torch.int8, 0.04)]
)
@pytest.mark.parametrize("width", [16, 80, 24])
@torch.inference_mode()
def test_padding_sees_no_padding_and_everybody_else_sees_all(
    width: int, dtype: torch.dtype, tolerance: float
) -> None:
    q, k, v = torch.randn(3, 2, 75, 3, width)
    real = torch.arange(75).expand(2, 75) % torch.tensor([[25], [40]]) < 21
    got = padded_attention(q, k, v, real, dtype)
    for image in range(2):
        whole = [each[image] for each in (k, v)]
        seen = [
            [each if real[image, row] else each[real[image]] for row in range(75)] for each in whole
        ]
        assert (got[image] - naive_rows(q[image], *seen)).abs().max() <= tolerance
