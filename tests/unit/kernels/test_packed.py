"""Packed weights and the native kernels, against their torch twins on fresh random input."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from puna.kernels import native
from puna.kernels.dense import (
    linear_add,
    norm_linear,
    norm_swiglu,
    rms_norm,
    rms_norm_twin,
    swiglu,
    swiglu_twin,
)
from puna.kernels.packed import (
    BLOCK_BYTES,
    BLOCK_COLUMNS,
    Format,
    assemble,
    bulk_twin,
    fine_twin,
    linear,
    linear_twin,
    pack,
    quantized,
    rows_of,
    rows_twin,
    unpack,
)
from puna.kernels.rotary import rotary_table, rotate, rotate_twin

FORMATS: tuple[Format, ...] = get_args(Format)
SHAPES = [(32, 32), (64, 2048), (100, 75), (33, 1), (1, 33), (300, 96), (37, 1280), (40, 300)]

needs_native = pytest.mark.skipif(
    native.library() is None, reason=f"no native kernels here: {native.why_not()}"
)


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_holds_each_weight_rounded_to_nearest(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape)
    assert torch.equal(unpack(pack(weight, "bf16")), weight.bfloat16().float())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("form", "steps"), [("int8", 127), ("int4", 8)])
def test_integers_are_off_by_half_a_step_of_their_group(
    shape: tuple[int, int], form: Format, steps: int
) -> None:
    weight = torch.randn(shape)
    off = (unpack(pack(weight, form)) - weight).abs()
    for first in range(0, shape[1], 32):
        group = slice(first, first + 32)
        step = weight[:, group].abs().amax(-1, keepdim=True) / steps
        # int4 has 7 steps on one side: the farther end may lose a whole one; fp16 scales a little
        worst = 1.01 if form == "int4" else 0.51
        assert (off[:, group] <= worst * step + 1e-6).all()


@pytest.mark.parametrize("form", FORMATS)
def test_zeros_stay_zeros_and_take_the_bytes_that_the_format_says(form: Format) -> None:
    packed = pack(torch.zeros(70, 40), form)
    assert packed.nbytes == 3 * -(-40 // BLOCK_COLUMNS[form]) * BLOCK_BYTES[form]
    assert torch.equal(unpack(packed), torch.zeros(70, 40))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("form", "group", "steps"), [("int6", 16, 32), ("int4m", 32, 15)])
def test_formats_with_two_scales_are_off_by_little_more_than_half_a_step(
    shape: tuple[int, int], form: Format, group: int, steps: int
) -> None:
    weight = torch.randn(shape)
    off = (unpack(pack(weight, form)) - weight).abs()
    for row in range(0, shape[1], group):
        part = weight[:, row : row + group]
        wide = part.clamp(min=0).amax(-1) - part.clamp(max=0).amin(-1)
        step = (part.abs().amax(-1) if form == "int6" else wide) / steps
        # the far side of int6 may lose a step; each scale is itself rounded to 7 or 8 bits of the
        # largest in 256 columns
        widest = weight.abs().amax() * (2 if form == "int4m" else 1)
        worst = (1.01 if form == "int6" else 0.52) * step + widest * (
            0.005 if form == "int6" else 0.006
        )
        assert (off[:, row : row + group] <= worst[:, None]).all()


@pytest.mark.parametrize("rows", [32, 40])
def test_scales_and_integers_that_are_there_already_are_packed_as_they_are(rows: int) -> None:
    def integers(least: int, end: int, columns: int, dtype: torch.dtype = torch.uint8) -> Tensor:
        return torch.randint(least, end, (rows, columns), dtype=dtype)

    def said(form: Format, *parts: Tensor) -> Tensor:
        cut = [tuple(each[:32] for each in parts), tuple(each[32:] for each in parts)]
        return unpack(assemble([part for part in cut if len(part[0])], rows, 512, form))

    def spread(scales: Tensor) -> Tensor:
        return scales.float().repeat_interleave(512 // scales.shape[1], dim=1)

    values, scale = integers(1, 256, 512), torch.randn(rows, 16).half()
    assert torch.equal(said("int8", values, scale), (values.float() - 128) * spread(scale))
    values = integers(0, 16, 512)
    assert torch.equal(said("int4", values, scale), (values.float() - 8) * spread(scale))

    scale, minimum = torch.randn(2, rows, 2).half()
    values, own = integers(0, 64, 512), integers(-128, 128, 32, torch.int8)
    expected = (values.float() - 32) * spread(own) * spread(scale)
    assert torch.equal(said("int6", values, own, scale), expected)
    values, own, least = integers(0, 16, 512), integers(0, 256, 16), integers(0, 256, 16)
    expected = values * spread(own) * spread(scale) - spread(least) * spread(minimum)
    assert torch.equal(said("int4m", values, own, scale, least, minimum), expected)


@needs_native
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 9, 12, 21])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMATS)
def test_linear_is_its_twin(form: Format, shape: tuple[int, int], rows: int) -> None:
    weight, x = pack(torch.randn(shape), form), torch.randn(rows, shape[1])
    rounded = form == "bf16" and native.chosen() in ("amx", "avx512bf16")
    expected = linear_twin(x.bfloat16() if rounded else x, weight)
    assert (linear(x, weight) - expected).abs().max() <= 2e-6 * shape[1] ** 0.5 * 10


@needs_native
@pytest.mark.parametrize(("rows", "exact"), [(1, 0), (7, 3), (40, 0), (40, 39), (37, 17), (600, 1)])
@pytest.mark.parametrize("shape", [(100, 75), (33, 1), (200, 600), (1100, 256)])
@pytest.mark.parametrize("form", FORMATS)
def test_rows_in_bulk_are_their_twin_and_leave_the_exact_ones_as_they_are(
    form: Format, shape: tuple[int, int], rows: int, exact: int
) -> None:
    weight, x = pack(torch.randn(shape), form), torch.randn(rows, shape[1])
    got = linear(x, weight, exact)
    assert torch.equal(got[:exact], linear(x[:exact], weight))
    twins = {("amx", form): bulk_twin, ("avx2", "int8"): fine_twin}
    expected = twins.get((native.chosen(), form), linear_twin)(x[exact:], weight)
    size = unpack(weight).abs() @ x[exact:].abs().T
    assert ((got[exact:] - expected).abs() <= 1e-6 * size.T + 1e-30).all()


@needs_native
@pytest.mark.parametrize("form", FORMATS)
def test_a_row_in_bulk_gives_the_same_bits_whoever_else_is_in_the_batch(form: Format) -> None:
    weight, x = pack(torch.randn(600, 300), form), torch.randn(70, 300)
    together = linear(x, weight, 5)
    for first, end in ((5, 6), (20, 37), (69, 70)):
        assert torch.equal(linear(x[first:end], weight, 0), together[first:end])


@needs_native
@pytest.mark.parametrize("form", FORMATS)
def test_a_row_gives_the_same_bits_whoever_else_is_in_the_batch(form: Format) -> None:
    weight, x = pack(torch.randn(200, 160), form), torch.randn(23, 160)
    together = linear(x, weight)
    for row in range(len(x)):
        assert torch.equal(linear(x[row : row + 1], weight)[0], together[row])
    assert torch.equal(linear(x[5:14], weight), together[5:14])


@needs_native
@pytest.mark.parametrize("rows", [1, 30])
@pytest.mark.parametrize("kind", ["exact", "bulk"])
@pytest.mark.parametrize("form", FORMATS)
def test_extreme_activations_neither_saturate_nor_overflow(
    form: Format, kind: str, rows: int
) -> None:
    exact = None if kind == "exact" else 0
    weight = pack(torch.full((32, 512), 3.0), form)
    x = torch.full((rows, 512), 1000.0)
    expected = torch.full((rows, 32), 512 * 3 * 1000.0)
    torch.testing.assert_close(linear(x, weight, exact), expected, rtol=4e-3, atol=0)
    torch.testing.assert_close(linear(-x, weight, exact), -expected, rtol=4e-3, atol=0)
    weight = pack(torch.where(torch.arange(512) % 2 == 0, 8.0, -7.0).expand(32, 512), form)
    # they cancel: off by little of what they are apart
    close = 1e-3 * 512 * 7.5 * 1000
    torch.testing.assert_close(linear(x, weight, exact), x @ unpack(weight).T, rtol=0, atol=close)


@pytest.mark.parametrize("rows", [1, 3, 7, 20])
@pytest.mark.parametrize("columns", [33, 256, 700])
@pytest.mark.parametrize("forms", [("int4", "int4"), ("int4m", "int6"), ("int8", "bf16")])
def test_projections_with_norm_gate_and_residual_are_what_they_are_one_by_one(
    forms: tuple[Format, Format], columns: int, rows: int
) -> None:
    x, norm = 3 * torch.randn(rows, columns), torch.randn(columns)
    weights = [
        pack(torch.randn(n, columns) / columns**0.5, form) for n in (70, 70) for form in forms
    ]
    normed = rms_norm_twin(x, norm, 1e-5)
    # a sum may round differently, and so the 8 bits of an activation after it
    close = {"rtol": 0.02, "atol": 0.02}
    alone = [linear_twin(normed, weight) for weight in weights]
    for got, wanted in zip(norm_linear(x, norm, 1e-5, weights), alone, strict=True):
        torch.testing.assert_close(got, wanted, **close)
    gated = norm_swiglu(x, norm, 1e-5, weights[0], weights[1])
    torch.testing.assert_close(gated, swiglu_twin(alone[0], alone[1]), **close)
    residual, by = torch.randn(rows, 70), torch.randn(1)
    for scale in (None, by):
        wanted = residual + (1 if scale is None else scale) * linear_twin(normed, weights[0])
        got = linear_add(normed, weights[0], residual, scale)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@needs_native
@pytest.mark.parametrize("form", FORMATS)
def test_a_row_after_a_norm_gives_the_same_bits_whoever_else_is_in_the_batch(form: Format) -> None:
    x, norm = torch.randn(17, 300), torch.randn(300)
    gate, up = (pack(torch.randn(64, 300), form) for _ in range(2))
    together = norm_swiglu(x, norm, 1e-5, gate, up)
    added = linear_add(together, pack(torch.randn(300, 64), form), x)
    assert added.shape == x.shape
    for row in range(len(x)):
        alone = norm_swiglu(x[row : row + 1], norm, 1e-5, gate, up)
        assert torch.equal(alone[0], together[row])


@needs_native
@pytest.mark.parametrize("form", FORMATS)
def test_results_do_not_depend_on_the_number_of_threads(form: Format) -> None:
    kernels = native.library()
    assert kernels is not None
    weight, x = pack(torch.randn(3000, 300), form), torch.randn(9, 300)
    given = linear(x, weight)
    try:
        for threads in (1, 3):
            kernels.puna_threads(threads)
            assert torch.equal(linear(x, weight), given)
    finally:
        kernels.puna_threads(native.processors())


def test_activations_are_quantised_by_groups_of_32() -> None:
    x = torch.cat((torch.full((1, 32), 1e-3), torch.full((1, 40), 1e3)), dim=1)
    assert ((quantized(x) - x).abs() <= x.abs() / 127).all()
    assert torch.equal(quantized(torch.zeros(2, 5)), torch.zeros(2, 5))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("lookup", [rows_of, rows_twin])
def test_rows_are_those_of_the_unpacked_weight(form: Format, lookup: Callable[..., Tensor]) -> None:
    weight = pack(torch.randn(70, 50), form)
    ids = torch.tensor([0, 69, 31, 32, 33, 0])
    assert torch.equal(lookup(weight, ids), unpack(weight)[ids])
    assert torch.equal(lookup(weight, ids[::2]), unpack(weight)[ids[::2]])


@pytest.mark.parametrize("ids", [[0, 70], [-1], [2**40]])
def test_ids_without_a_row_are_refused_as_torch_refuses_them(ids: list[int]) -> None:
    weight = pack(torch.randn(70, 50), "int8")  # padded to 96 rows: 70 would be read
    with pytest.raises(IndexError):
        rows_of(weight, torch.tensor(ids))


@needs_native
@pytest.mark.parametrize("width", [1, 16, 77, 2048])
def test_norm_and_gate_are_their_twins(width: int) -> None:
    x, weight = 10 * torch.randn(6, width), torch.randn(width)
    torch.testing.assert_close(rms_norm(x, weight, 1e-5), rms_norm_twin(x, weight, 1e-5))
    up = torch.randn(6, width)
    torch.testing.assert_close(swiglu(20 * x, up), swiglu_twin(20 * x, up))


@needs_native
@pytest.mark.parametrize("head_dim", [64, 80, 128, 6])
def test_rotation_is_its_twin(head_dim: int) -> None:
    x = torch.randn(5, 3, head_dim)
    cos, sin = rotary_table(torch.tensor([0, 1, 77, 5000, 131071]), torch.rand(head_dim // 2))
    torch.testing.assert_close(rotate(x, cos, sin), rotate_twin(x, cos, sin))


def test_gradients_still_flow_where_they_are_wanted() -> None:
    with torch.inference_mode(False):
        x = torch.randn(3, 32, requires_grad=True)
        rms_norm(x, torch.ones(32), 1e-5).sum().backward()
        assert x.grad is not None


def test_no_kernels_are_named_for_a_processor_that_lacks_them() -> None:
    for name in native.instruction_sets():
        assert native.library(name) is not None
    assert (native.library() is None) == (native.why_not() is not None)
