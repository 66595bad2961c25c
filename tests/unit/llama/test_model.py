"""The decoder: what a row gives depends on its own sequence alone, however the work is cut.

Bitwise equality is not promised: a matrix product of one row and one of many may add in another
order. In fp32 the difference is about 5e-6 here; `CLOSE` leaves room for other processors.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from puna import kernels
from puna.errors import InvalidImage
from puna.kernels import dense
from puna.llama.batch import Batch, ImageView, Span, image_ranges
from puna.llama.cache import KVCache
from puna.llama.config import LlamaConfig, RopeScaling
from puna.llama.model import Llama, sight_of
from puna.llama.rope import rope_frequencies
from puna.llama.shapes import tensor_shapes
from tests.tiny_models import (
    PAGE_SIZE,
    TIED,
    UNTIED,
    VISION,
    logits_of,
    new_cache,
    random_image,
    step,
    tiny_llama,
    views,
)

CLOSE = 1e-4
IMAGE = 300  # VISION's image token
PAGES = 64


@pytest.fixture(scope="module")
def text() -> Llama:
    return tiny_llama(UNTIED)


@pytest.fixture(scope="module")
def vision() -> Llama:
    return tiny_llama(VISION)


def tokens(count: int, seed: int = 0) -> list[int]:
    return torch.randint(300, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def in_pieces(
    model: Llama, ids: list[int], sizes: list[int], images: tuple[ImageView, ...] = ()
) -> Tensor:
    cache, pages, done, out = new_cache(model, PAGES), torch.randperm(PAGES), 0, []
    for size in sizes:
        out += step(model, cache, [(ids[done : done + size], done, pages, images)])
        done += size
    return torch.cat(out)


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(borders=st.sets(st.integers(1, 69)))
def test_any_split_of_a_sequence_into_spans_equals_one_pass(text: Llama, borders: set[int]) -> None:
    ids = tokens(70)
    cuts = [0, *sorted(borders), 70]
    sizes = [end - start for start, end in pairwise(cuts)]
    assert (in_pieces(text, ids, sizes) - logits_of(text, ids)).abs().max() <= CLOSE


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(borders=st.sets(st.integers(1, 39)), places=st.lists(st.integers(0, 39), max_size=4))
def test_any_split_equals_one_pass_with_images_anywhere(
    vision: Llama, borders: set[int], places: list[int]
) -> None:
    ids = tokens(40)
    for place in places:
        ids[place] = IMAGE
    images = [random_image(VISION, ratio + 1) for ratio in range(ids.count(IMAGE))]
    cuts = [0, *sorted(borders), 40]
    sizes = [end - start for start, end in pairwise(cuts)]
    pieces = in_pieces(vision, ids, sizes, views(vision, ids, images))
    assert (pieces - logits_of(vision, ids, images)).abs().max() <= CLOSE


def test_batch_company_changes_nothing(text: Llama) -> None:
    together: list[Tensor] = []
    cache, order = new_cache(text, PAGES), torch.randperm(PAGES)
    parts = [(tokens(size, size), order[size % 7 * 8 :][:8]) for size in (1, 2, 31, 32, 33, 90)]
    assert not set(parts[0][1].tolist()) & set(parts[5][1].tolist())
    first = step(text, cache, [(ids[: len(ids) // 2], 0, pages, ()) for ids, pages in parts[1:]])
    second = step(
        text,
        cache,
        [(parts[0][0], 0, parts[0][1], ())]
        + [(ids[len(ids) // 2 :], len(ids) // 2, pages, ()) for ids, pages in parts[1:]],
    )
    together = [second[0], *(torch.cat(both) for both in zip(first, second[1:], strict=True))]
    for (ids, _), got in zip(parts, together, strict=True):
        assert (got - logits_of(text, ids)).abs().max() <= CLOSE


def test_a_text_row_beside_an_image_gives_what_it_gives_alone(vision: Llama) -> None:
    seeing, blind = [IMAGE, *tokens(9)], tokens(12, seed=1)
    image = random_image(VISION, 6)
    cache, order = new_cache(vision, PAGES), torch.randperm(PAGES)
    got = step(
        vision,
        cache,
        [
            (blind, 0, order[:1], ()),
            (seeing, 0, order[1:2], views(vision, seeing, [image])),
            (blind, 0, order[2:3], ()),
        ],
    )
    alone = logits_of(vision, blind)
    assert (got[0] - alone).abs().max() <= CLOSE
    assert (got[2] - alone).abs().max() <= CLOSE
    assert (got[1] - logits_of(vision, seeing, [image])).abs().max() <= CLOSE


def test_only_rows_from_the_image_on_are_moved_by_it(vision: Llama) -> None:
    ids = tokens(20)
    ids[7] = IMAGE
    one = logits_of(vision, ids, [random_image(VISION, 2, seed=0)])
    other = logits_of(vision, ids, [random_image(VISION, 2, seed=1)])
    assert (one[:7] - other[:7]).abs().max() <= CLOSE
    assert (one[7:] - other[7:]).abs().amax(1).min() > 0.01


def test_rows_are_cut_into_runs_that_see_the_same_images() -> None:
    one, two, three = (ImageView((), first, end) for first, end in ((12, 15), (15, 30), (16, 30)))
    batch = Batch(
        torch.zeros(13).long(),
        torch.arange(13),
        (
            Span(0, 3, 0, torch.arange(1)),
            Span(3, 8, 10, torch.arange(2), (one, two, three)),
            Span(11, 2, 29, torch.arange(2), (three,)),
        ),
        torch.arange(1),
        exact=11,
    )
    sight = sight_of(batch)
    assert sight is not None
    assert sight.rows.tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert sight.lengths == (3, 1, 2, 1)
    assert sight.images == ((one,), (two,), (two, three), (three,))
    assert sight.exact == 6


def test_no_cross_attention_layer_runs_when_no_row_sees_an_image(vision: Llama) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("ran")

    layers = [vision.model.layers[layer] for layer in VISION.cross_attention_layers]
    hooks = [layer.register_forward_pre_hook(refuse) for layer in layers]
    try:
        ids = [*tokens(5), IMAGE, *tokens(5)]
        seen = views(vision, ids, [random_image(VISION, 1)])
        step(vision, new_cache(vision), [(ids[:5], 0, torch.arange(1), seen)])
        with pytest.raises(RuntimeError, match="ran"):
            step(vision, new_cache(vision), [(ids[:6], 0, torch.arange(1), seen)])
    finally:
        for hook in hooks:
            hook.remove()


def test_logit_rows_come_back_in_the_order_asked(text: Llama) -> None:
    ids, rows = tokens(30), torch.tensor([29, 3, 3, 0])
    batch = Batch(torch.tensor(ids), torch.arange(30), (Span(0, 30, 0, torch.arange(2)),), rows, 0)
    with torch.inference_mode():
        got = text(batch, new_cache(text))
    assert got.dtype == torch.float32
    assert torch.allclose(got, logits_of(text, ids)[rows], atol=CLOSE)


def test_a_step_that_wants_no_logits_still_fills_the_cache(text: Llama) -> None:
    ids, cache, pages = tokens(30), new_cache(text), torch.arange(2)
    span = Span(0, 29, 0, pages)
    batch = Batch(torch.tensor(ids[:29]), torch.arange(29), (span,), torch.tensor([]).long(), 0)
    with torch.inference_mode():
        assert text(batch, cache).shape == (0, 300)
    last = step(text, cache, [(ids[29:], 29, pages, ())])[0]
    assert (last - logits_of(text, ids)[29]).abs().max() <= CLOSE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
def test_a_cache_takes_the_bytes_it_says(dtype: torch.dtype) -> None:
    cache = KVCache(VISION, 3, 16, dtype)
    held = sum(tensor.nbytes for layer in cache.layers for tensor in layer)
    assert len(cache.layers) == 4
    assert held == 3 * KVCache.bytes_per_page(VISION, 16, dtype)


def test_a_cache_in_8_bits_moves_logits_a_little_and_splits_change_them_no_more(
    text: Llama,
) -> None:
    """Logits here are of unit size."""
    ids, pages = tokens(70), torch.randperm(PAGES)

    def in_8_bits(sizes: list[int]) -> Tensor:
        cache, out, done = KVCache(UNTIED, PAGES, PAGE_SIZE, torch.int8), [], 0
        for size in sizes:
            out += step(text, cache, [(ids[done : done + size], done, pages, ())])
            done += size
        return torch.cat(out)

    whole = in_8_bits([70])
    assert 0 < (whole - logits_of(text, ids)).abs().max() <= 0.1
    # sums in another order may round a key to the next of its 255 steps
    assert (in_8_bits([1] * 70) - whole).abs().max() <= 0.02


def test_stale_content_of_a_page_is_never_read(text: Llama) -> None:
    ids = tokens(21)
    cache = new_cache(text, 2)
    for layer in cache.layers:
        for tensor in layer:
            tensor.fill_(float("nan"))
    got = step(text, cache, [(ids, 0, torch.tensor([1, 0]), ())])[0]
    assert torch.equal(got, logits_of(text, ids))


@pytest.mark.parametrize("config", [UNTIED, TIED, VISION])
def test_a_model_built_on_meta_is_filled_by_name_and_is_whole(config: LlamaConfig) -> None:
    source = tiny_llama(config)
    with torch.device("meta"):
        model = Llama(config)
    model.load_state_dict(source.state_dict(), strict=True, assign=True)
    ids = tokens(10)
    assert torch.equal(logits_of(model, ids), logits_of(source, ids))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == tensor_shapes(config)


def test_a_tied_head_is_the_embedding_itself() -> None:
    model = tiny_llama(TIED)
    assert "lm_head.weight" not in model.state_dict()
    before = logits_of(model, [1, 2])
    model.model.embed_tokens.weight[7] *= 2
    assert (logits_of(model, [1, 2]) / before)[:, 7].allclose(torch.tensor(2.0))


def test_a_text_model_refuses_an_image_in_one_line(text: Llama) -> None:
    with pytest.raises(InvalidImage, match="text only"):
        text.encode_image(random_image(VISION, 1))


def test_an_images_keys_leave_unused_tiles_out(vision: Llama) -> None:
    sources = vision.encode_image(random_image(VISION, 2))
    assert [source.tokens for source in sources] == [2 * 17] * 2


def test_gradients_reach_every_weight(vision: Llama) -> None:
    model = tiny_llama(VISION).requires_grad_(True)
    ids = [*tokens(4), IMAGE, *tokens(20)]
    images = [random_image(VISION, 3)]
    pages = torch.arange(2)
    span = Span(0, 25, 0, pages, views(model, ids, images))
    batch = Batch(torch.tensor(ids), torch.arange(25), (span,), torch.arange(25), 0)
    model(batch, new_cache(model)).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 2], []),
        ([9, 1, 2], [(0, None)]),
        ([1, 9, 2, 9, 3], [(1, 3), (3, None)]),
        ([9, 9, 2], [(0, None), (1, None)]),
        ([9, 1, 9, 9, 9, 1, 9, 1], [(0, 2), (2, 6), (3, 6), (4, 6), (6, None)]),
    ],
)
def test_an_image_is_seen_until_the_next_and_adjacent_ones_share_the_later_end(
    ids: list[int], expected: list[tuple[int, int | None]]
) -> None:
    got = image_ranges([place for place, each in enumerate(ids) if each == 9])
    assert [(first, end if end < len(ids) else None) for first, end in got] == expected
    assert all(end > 10**12 for (_, end), (_, last) in zip(got, expected, strict=True) if not last)


def test_given_divisors_replace_the_scaling() -> None:
    config = replace(UNTIED, rope_scaling=RopeScaling(factor=32))
    plain = rope_frequencies(replace(UNTIED, rope_scaling=None))
    divisors = tuple((plain / rope_frequencies(config)).tolist())
    assert divisors[0] == pytest.approx(1)
    assert divisors[-1] == pytest.approx(32)
    given_ones = rope_frequencies(replace(UNTIED, rope_scaling=None, rope_divisors=divisors))
    assert torch.allclose(given_ones, rope_frequencies(config), rtol=1e-6)


def test_moving_a_model_to_half_precision_leaves_its_frequencies_exact() -> None:
    model = tiny_llama(UNTIED).bfloat16()
    assert torch.equal(model.frequencies, rope_frequencies(UNTIED))


def test_page_size_is_free() -> None:
    model, ids = tiny_llama(UNTIED), tokens(23)
    cache = KVCache(UNTIED, 12, 5, torch.float32)
    got = step(model, cache, [(ids, 0, torch.randperm(12), ())])[0]
    assert PAGE_SIZE != 5
    assert (got - logits_of(model, ids)).abs().max() <= CLOSE


def test_every_layer_is_told_how_many_of_its_rows_are_exact(
    vision: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = random_image(VISION, 2)
    told: list[tuple[int, int | None]] = []
    plain = kernels.linear

    def linear(x: Tensor, weight: Tensor, bias: Any = None, exact: int | None = None) -> Tensor:
        told.append((x.numel() // x.shape[-1], exact))
        return plain(x, weight, bias, exact)

    monkeypatch.setattr(kernels, "linear", linear)
    monkeypatch.setattr(dense, "linear", linear)
    pages, ids = torch.arange(2), [*tokens(4), IMAGE, *tokens(20)]
    seen = views(vision, ids, [image])
    assert told.pop(0)[1] is None  # the patches', whose weights are never packed
    assert {exact for _, exact in told} == {0}
    told.clear()
    parts = [(ids[8:9], 8, pages, seen), (tokens(2), 3, pages, ()), (ids, 0, pages, seen)]
    step(vision, new_cache(vision), parts, exact=3)
    *layers, head = told
    assert set(layers) == {(28, 3), (22, 1)}
    assert head == (28, None)
