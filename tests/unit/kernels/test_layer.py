"""Layers in one native call, against the same call by call and in plain torch."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch

from puna.kernels import (
    Format,
    LayerWeights,
    Packed,
    Step,
    native,
    new_pages,
    pack,
    rotary_table,
    self_attention_layers,
    unpack,
)
from puna.kernels.layer import self_attention_layers_twin

FORMATS: list[Format] = ["bf16", "int8", "int6", "int4m", "int4"]
PAGE = 16
EPS = 1e-5

needs_native = pytest.mark.skipif(
    native.library() is None, reason=f"no native kernels here: {native.why_not()}"
)


class Run(NamedTuple):
    start: int
    length: int
    context: int
    pages: torch.Tensor


def random_layer(heads: int, kv_heads: int, head_dim: int, width: int, wide: int) -> LayerWeights:
    def matrix(out: int, into: int) -> Packed:
        return pack(torch.randn(out, into) / into**0.5, random.choice(FORMATS))

    return LayerWeights(
        attention_norm=torch.rand(width) + 0.5,
        q=matrix(heads * head_dim, width),
        k=matrix(kv_heads * head_dim, width),
        v=matrix(kv_heads * head_dim, width),
        o=matrix(width, heads * head_dim),
        mlp_norm=torch.rand(width) + 0.5,
        gate=matrix(wide, width),
        up=matrix(wide, width),
        down=matrix(width, wide),
    )


def random_step(lengths: list[int], contexts: list[int], head_dim: int) -> tuple[Step, int]:
    """Pages in random order; and how many there are."""
    counts = [-(-(n + c) // PAGE) for n, c in zip(lengths, contexts, strict=True)]
    order = torch.randperm(sum(counts))
    spans, slots, positions = list[Run](), list[torch.Tensor](), list[torch.Tensor]()
    start = first = 0
    for length, context, count in zip(lengths, contexts, counts, strict=True):
        pages = order[first : first + count].contiguous()
        spans.append(Run(start, length, context, pages))
        here = torch.arange(context, context + length)
        positions.append(here)
        slots.append(pages[here // PAGE] * PAGE + here % PAGE)
        start, first = start + length, first + count
    frequencies = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    cos, sin = rotary_table(torch.cat(positions), frequencies)
    exact = sum(lengths[: random.randint(0, len(lengths))])
    return Step(spans, torch.cat(slots), cos, sin, exact), first


SHAPES = [(4, 2, 16, 64, 96), (8, 1, 64, 200, 333), (3, 3, 80, 96, 70), (4, 1, 128, 256, 512)]
BATCHES = [([1], [37]), ([1, 1, 1], [0, 15, 300]), ([5, 1, 40], [0, 64, 3])]


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("lengths", "contexts"), BATCHES)
@torch.inference_mode()
def test_layers_in_one_call_are_the_layers_call_by_call_to_the_bit(
    shape: tuple[int, int, int, int, int],
    lengths: list[int],
    contexts: list[int],
    dtype: torch.dtype,
) -> None:
    random.seed(torch.initial_seed())
    layers = [random_layer(*shape) for _ in range(random.randint(1, 3))]
    step, pages = random_step(lengths, contexts, shape[2])
    caches = [new_pages(pages, shape[1], shape[2], PAGE, dtype) for _ in layers]
    for tensor in (tensor for cache in caches for tensor in cache):
        tensor.zero_()
    x = torch.randn(sum(lengths), shape[3])
    before = x.clone()
    mine, theirs = ([(k.clone(), v.clone()) for k, v in caches] for _ in range(2))
    got = self_attention_layers(x, layers, EPS, step, mine)
    expected = self_attention_layers_twin(x, layers, EPS, step, theirs)
    assert torch.equal(got, expected)
    for ours, others in zip(mine, theirs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, others, strict=True))
    assert torch.equal(x, before)


@needs_native
@torch.inference_mode()
def test_layers_follow_weights_that_are_moved_or_exchanged_between_calls() -> None:
    random.seed(torch.initial_seed())
    step, pages = random_step([2], [5], 16)
    cache = new_pages(pages, 2, 16, PAGE, torch.float32)
    for tensor in cache:
        tensor.zero_()
    x = torch.randn(2, 64)
    first, second = random_layer(*SHAPES[0]), random_layer(*SHAPES[0])
    alone = self_attention_layers_twin(x, [second], EPS, step, [cache])
    self_attention_layers(x, [first], EPS, step, [cache])
    first.attention_norm.data = second.attention_norm.clone()
    mixed = replace(second, attention_norm=first.attention_norm)
    assert torch.equal(self_attention_layers(x, [mixed], EPS, step, [cache]), alone)


@needs_native
@pytest.mark.parametrize("name", ["q", "up"])
@torch.inference_mode()
def test_one_plain_weight_among_the_packed_is_taken_as_it_is(name: str) -> None:
    random.seed(torch.initial_seed())
    layers = [random_layer(*SHAPES[0]) for _ in range(2)]
    layers[1] = replace(layers[1], **{name: unpack(getattr(layers[1], name))})
    step, pages = random_step([1, 3], [20, 0], 16)
    caches = [
        tuple(tensor.zero_() for tensor in new_pages(pages, 2, 16, PAGE, torch.float32))
        for _ in range(4)
    ]
    x = torch.randn(4, 64)
    got = self_attention_layers(x, layers, EPS, step, caches[:2])
    assert torch.equal(got, self_attention_layers_twin(x, layers, EPS, step, caches[2:]))


@needs_native
@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_a_layer_in_one_call_is_near_the_layer_in_plain_torch(
    shape: tuple[int, int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    random.seed(torch.initial_seed())
    packed = random_layer(*shape)
    names = ("q", "k", "v", "o", "gate", "up", "down")
    plain = replace(packed, **{name: unpack(getattr(packed, name)) for name in names})
    step, pages = random_step([1, 7], [20, 0], shape[2])
    caches = [new_pages(pages, shape[1], shape[2], PAGE, torch.float32) for _ in range(2)]
    for tensor in (tensor for cache in caches for tensor in cache):
        tensor.zero_()
    x = torch.randn(8, shape[3])
    got = self_attention_layers(x, [packed], EPS, step, caches[:1])
    monkeypatch.setattr(native, "library", lambda name=None: None)
    expected = self_attention_layers(x, [plain], EPS, step, caches[1:])
    assert (got - expected).abs().max() < 0.15  # activations are rounded to 8 bits, five times
    assert (got - expected).square().mean().sqrt() < 0.02 * expected.square().mean().sqrt()


@needs_native
def test_gradients_still_flow_through_a_layer_of_plain_weights() -> None:
    weights = random_layer(*SHAPES[0])
    names = ("q", "k", "v", "o", "gate", "up", "down")
    plain = replace(
        weights, **{name: unpack(getattr(weights, name)).requires_grad_() for name in names}
    )
    step, pages = random_step([3], [0], 16)
    caches = [new_pages(pages, 2, 16, PAGE, torch.float32)]
    self_attention_layers(torch.randn(3, 64), [plain], EPS, step, caches).sum().backward()
    assert isinstance(plain.o, torch.Tensor)
    assert plain.o.grad is not None
    assert plain.o.grad.abs().max() > 0
