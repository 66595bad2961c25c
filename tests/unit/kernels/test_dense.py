"""Projection, norm, gate and rotation against their formulas in fp64."""

from __future__ import annotations

import pytest
import torch

from puna.kernels import linear, rms_norm, rotary_table, rotate, swiglu

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
