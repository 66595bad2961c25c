"""Projection, norm, gate, rotation and argmax against their formulas in fp64."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from puna.kernels import argmax, linear, rms_norm, rotary_table, rotate, swiglu
from puna.kernels.dense import argmax_twin

DTYPES = [(torch.float32, 1e-5), (torch.bfloat16, 0.04), (torch.float16, 5e-3)]


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize(
    ("rows", "width", "out"), [(1, 64, 96), (3, 80, 33), (37, 100, 7), (5, 700, 1600)]
)
def test_linear_is_the_product_with_the_transpose(
    dtype: torch.dtype, tolerance: float, rows: int, width: int, out: int
) -> None:
    x, bias = torch.randn(2, rows, width).to(dtype), torch.randn(out).to(dtype)
    weight = (torch.randn(out, width) / width**0.5).to(dtype)
    expected = torch.einsum("bri,oi->bro", x.double(), weight.double())
    for got, wanted in ((linear(x, weight), expected), (linear(x, weight, bias), expected + bias)):
        assert got.dtype == dtype
        assert (got - wanted).abs().max() <= tolerance
    assert torch.allclose(linear(x[0, 0], weight).double(), expected[0, 0], atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_rms_norm_divides_by_the_root_mean_square(dtype: torch.dtype, tolerance: float) -> None:
    x, weight = torch.randn(5, 3, 80).to(dtype), torch.randn(80).to(dtype)
    wide = x.double()
    expected = wide / (wide.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    got = rms_norm(x, weight, 1e-5)
    assert got.dtype == dtype
    assert (got - expected).abs().max() <= tolerance


def test_rms_norm_of_large_halves_does_not_overflow() -> None:
    x = torch.full((1, 64), 3000.0, dtype=torch.float16)
    assert (rms_norm(x, torch.ones(64, dtype=torch.float16), 1e-5) - 1).abs().max() <= 1e-3


def test_swiglu_gates_with_the_sigmoid_linear_unit() -> None:
    gate, up = torch.randn(2, 4, 33)
    wide = gate.double()
    expected = wide / (1 + torch.exp(-wide)) * up.double()
    assert (swiglu(gate, up) - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("head_dim", [64, 80, 128])
def test_rotate_turns_each_pair_of_features_as_a_complex_number(head_dim: int) -> None:
    positions = torch.tensor([0, 1, 4097, 131071])
    frequencies = 500000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    x = torch.randn(4, 3, head_dim)
    angles = (positions.float()[:, None] * frequencies).double()
    half = head_dim // 2
    pairs = torch.complex(x[..., :half].double(), x[..., half:].double())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    expected = torch.cat([turned.real, turned.imag], dim=-1)
    assert (rotate(x, *rotary_table(positions, frequencies)) - expected).abs().max() <= 1e-5


def test_rotated_queries_and_keys_depend_on_their_distance_only() -> None:
    frequencies = 500000.0 ** (-torch.arange(0, 64, 2) / 64)
    q, k = torch.randn(2, 1, 1, 64)

    def score(here: int, there: int) -> float:
        table = rotary_table(torch.tensor([here, there]), frequencies)
        turned = rotate(torch.cat([q, k]), *table)
        return float(turned[0, 0] @ turned[1, 0])

    assert score(90, 60) == pytest.approx(score(1030, 1000), abs=1e-3)
    assert abs(score(90, 60) - score(91, 60)) > 1e-2


def test_rotation_of_halves_uses_angles_in_full_precision() -> None:
    """In bf16 position 4097 is 4096: the angle would be off by a radian."""
    frequencies = torch.ones(32)
    x = torch.randn(1, 1, 64).bfloat16()
    exact = rotate(x.float(), *rotary_table(torch.tensor([4097]), frequencies))
    got = rotate(x, *rotary_table(torch.tensor([4097]), frequencies))
    assert (got - exact).abs().max() <= 0.02


Find = Callable[[Tensor], tuple[Tensor, Tensor]]
WIDTHS = [1, 5, 16, 33, 1023, 1024, 1025, 3000, 128256]


@pytest.mark.parametrize("find", [argmax, argmax_twin])
@pytest.mark.parametrize("width", WIDTHS)
@torch.inference_mode()
def test_argmax_is_the_first_of_those_that_tie(find: Find, width: int) -> None:
    rows = torch.randint(-3, 4, (7, width)).float()  # many ties
    rows[1] = torch.randn(width)
    rows[2] = -torch.inf
    rows[3] = torch.randn(width).abs().neg()
    rows[3, width // 2 :] = 0.0
    rows[4, ::2] = -0.0
    rows[5, width - 1] = torch.inf
    ids, peaks = find(rows)
    assert ids.tolist() == [row.index(max(row)) for row in rows.tolist()]
    assert peaks.tolist() == [max(row) for row in rows.tolist()]


@pytest.mark.parametrize("find", [argmax, argmax_twin])
@pytest.mark.parametrize("width", WIDTHS)
@torch.inference_mode()
def test_argmax_finds_the_first_that_is_no_number(find: Find, width: int) -> None:
    places = sorted({0, width // 3, width // 2, max(0, width - 17), width - 1})
    for first, odd in product(places, [math.nan, -math.nan]):
        row = torch.randn(width)
        row[first] = odd
        row[first + 1 :: 5] = torch.inf
        row[first + 2 :: 7] = math.nan
        ids, peaks = find(row[None])
        assert ids.tolist() == [first]
        assert peaks.isnan().all()


@torch.inference_mode()
def test_argmax_takes_rows_that_do_not_lie_end_to_end_and_other_types() -> None:
    rows = torch.randn(40, 3).T
    for each in (rows, rows.bfloat16(), rows.double()):
        ids, peaks = argmax(each)
        assert torch.equal(ids, each.argmax(-1))
        assert torch.equal(peaks, each.amax(-1))
