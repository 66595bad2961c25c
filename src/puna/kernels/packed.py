"""Packed weights: a matrix cut into blocks of 32 rows, in few bits, read in order.

Five formats, laid out as `native/formats.h` draws them:

| format | columns, bytes a block | bits a weight | value |
|---|---|---|---|
| bf16 | 32, 2048 | 16 | the weight, rounded to bf16 |
| int8 | 32, 1088 | 8.5 | fp16 scale of a row's 32 columns, times -127..127 |
| int6 | 256, 6720 | 6.5625 | fp16 scale of 256 columns, int8 scale of 16, times -32..31 |
| int4m | 256, 4736 | 4.625 | fp16 scale of 256 columns, 8-bit scale of 32, times 0..15, less \
a minimum: fp16 scale of 256, times 8 bits of 32 |
| int4 | 32, 576 | 4.5 | fp16 scale of a row's 32 columns, times -8..7 |

The scale of int4 belongs to the value of largest magnitude, which becomes -8 exactly. ggml's Q4_0
does the same, so that such weights are packed without loss, but not those made with an importance
matrix, which have scales of their own. `assemble` takes scales and integers as they are: so ggml's
Q8_0, Q6_K, Q4_K and Q4_0 become int8, int6, int4m and int4 exactly.

All but bf16 are multiplied as integers: activations are rounded to 8 bits with a scale for each 32
columns, as `linear_twin` shows. For exact rows that holds everywhere. With AMX those in bulk share
one for 256 columns, and so do the weights that they meet (`bulk_twin`); with AVX2 they meet int8 in
that way, but with 12 bits (`fine_twin`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ctypes import CDLL, c_int, c_long, c_void_p
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.kernels.native import for_tensors, library

Parts: TypeAlias = tuple[Tensor, Tensor, Tensor]
Format: TypeAlias = Literal["bf16", "int8", "int6", "int4m", "int4"]

CODES: dict[Format, int] = {"bf16": 0, "int8": 1, "int4": 2, "int6": 3, "int4m": 4}
BLOCK_COLUMNS: dict[Format, int] = {"bf16": 32, "int8": 32, "int6": 256, "int4m": 256, "int4": 32}
BLOCK_BYTES: dict[Format, int] = {
    "bf16": 2048, "int8": 1088, "int6": 6720, "int4m": 4736, "int4": 576,
}  # fmt: skip
BLOCK = 32  # rows a block, and columns that share a scale of the activations
PANEL = 256  # columns that share one in bulk

# Weights packed at a time: what lies between stays in the cache (1 << 24 takes three times longer).
_PACKED_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """`data` uint8 [blocks down, blocks across, bytes a block] of a weight [rows, columns]."""

    data: Tensor
    format: Format
    rows: int
    columns: int

    @property
    def nbytes(self) -> int:
        return self.data.numel()


def pack(weight: Tensor, form: Format) -> Packed:
    """[rows, columns], any float dtype, CPU; edges are padded with zeros."""
    rows, columns = weight.shape
    return pack_parts(in_parts(weight, columns), rows, columns, form)


def pack_parts(parts: Iterable[Tensor], rows: int, columns: int, form: Format) -> Packed:
    """The same of a weight that comes in `parts`, its rows from the top: a multiple of 32 in each
    but the last, best `in_parts`."""
    down, across = blocks_of(rows, columns, form)
    wide = BLOCK_COLUMNS[form]
    data = torch.empty(down, across, BLOCK_BYTES[form], dtype=torch.uint8)
    first = 0
    for part in parts:
        padded = F.pad(part.float(), (0, across * wide - columns, 0, -len(part) % BLOCK))
        blocks = _split(_split(padded, 1, across, wide), 0, -1, BLOCK).transpose(1, 2)
        data[first : first + len(blocks)] = _PACK[form](blocks)
        first += len(blocks)
    return Packed(data, form, rows, columns)


def rows_at_once(columns: int) -> int:
    """How many rows are best packed together, a multiple of 32."""
    return max(1, _PACKED_AT_ONCE // (columns * BLOCK)) * BLOCK


def in_parts(matrix: Tensor, columns: int) -> Iterator[Tensor]:
    """The rows of a matrix of `columns` weights a row, `rows_at_once`."""
    rows = rows_at_once(columns)
    return (matrix[first : first + rows] for first in range(0, len(matrix), rows))


def assemble(parts: Iterable[tuple[Tensor, ...]], rows: int, columns: int, form: Format) -> Packed:
    """A weight made of integers and scales that are there already: nothing is rounded.

    `parts` are its rows from the top, a multiple of 32 in each but the last; `columns` is a
    multiple of the format's. Each part is, with n rows:

    - int8, int4: `values` uint8 [n, columns], where 128 or 8 means zero; fp16 [n, columns / 32].
    - int6: `values` uint8 [n, columns], where 32 means zero; int8 [n, columns / 16] times fp16
      [n, columns / 256].
    - int4m: `values` uint8 [n, columns], 0..15; uint8 [n, columns / 32] times fp16
      [n, columns / 256]; and the same two of the minima that are taken off.
    """
    down, across = blocks_of(rows, columns, form)
    data = torch.empty(down, across, BLOCK_BYTES[form], dtype=torch.uint8)
    first = 0
    for part in parts:
        padding = (0, 0, 0, -len(part[0]) % BLOCK)
        split = (
            F.pad(each, padding).view(-1, BLOCK, across, each.shape[1] // across) for each in part
        )
        blocks = _LAY_OUT[form](*(each.transpose(1, 2) for each in split))
        data[first : first + len(blocks)] = blocks
        first += len(blocks)
    return Packed(data, form, rows, columns)


def blocks_of(rows: int, columns: int, form: Format) -> tuple[int, int]:
    """How many blocks of `form` a matrix takes, down and across."""
    return -(-rows // BLOCK), -(-columns // BLOCK_COLUMNS[form])


def unpack(packed: Packed) -> Tensor:
    """What the packed weight says, fp32 [rows, columns]."""
    if packed.format == "bf16":
        whole = _matrix(_values_bf16(packed.data))
    else:
        values, scale, minimum = _PARTS[packed.format](packed.data)
        whole = _matrix(values * scale - minimum)
    return whole[: packed.rows, : packed.columns]


def linear(x: Tensor, weight: Packed, exact: int | None = None) -> Tensor:
    """`x @ weight.T`, fp32 [..., columns] to [..., rows]; `exact` as in dense.py."""
    kernels = for_tensors(x)
    return _linears(kernels, x, (weight,), exact)[0] if kernels else linear_twin(x, weight)


def linear_add(
    kernels: CDLL,
    x: Tensor,
    weight: Packed,
    residual: Tensor,
    by: float = 1.0,
    exact: int | None = None,
) -> Tensor:
    """`residual + by * linear(x, weight)`, natively."""
    return _linears(kernels, x, (weight,), exact, residual=residual.contiguous(), by=by)[0]


def norm_linear(
    kernels: CDLL,
    x: Tensor,
    norm: Tensor,
    eps: float,
    weights: Sequence[Packed],
    exact: int | None = None,
) -> tuple[Tensor, ...]:
    """`linear(rms_norm(x, norm, eps), weight)` for each weight, natively."""
    return _linears(kernels, x, weights, exact, norm, eps)


def norm_swiglu(
    kernels: CDLL,
    x: Tensor,
    norm: Tensor,
    eps: float,
    gate: Packed,
    up: Packed,
    exact: int | None = None,
) -> Tensor:
    """`swiglu` of both projections of `rms_norm(x, norm, eps)`, natively."""
    x = x.contiguous()
    rows = x.numel() // gate.columns
    out = x.new_empty(*x.shape[:-1], gate.rows)
    kernels.puna_gated(
        (c_int * 2)(CODES[gate.format], CODES[up.format]),
        (c_void_p * 2)(gate.data.data_ptr(), up.data.data_ptr()),
        gate.rows,
        gate.columns,
        x.data_ptr(),
        rows,
        rows if exact is None else exact,
        norm.data_ptr(),
        eps,
        out.data_ptr(),
    )
    return out


def _linears(
    kernels: CDLL,
    x: Tensor,
    weights: Sequence[Packed],
    exact: int | None,
    norm: Tensor | None = None,
    eps: float = 0.0,
    residual: Tensor | None = None,
    by: float = 1.0,
) -> tuple[Tensor, ...]:
    x = x.contiguous()
    count, columns = len(weights), weights[0].columns
    rows = x.numel() // columns
    outs = tuple(x.new_empty(*x.shape[:-1], weight.rows) for weight in weights)
    kernels.puna_linear(
        count,
        (c_int * count)(*(CODES[weight.format] for weight in weights)),
        (c_void_p * count)(*(weight.data.data_ptr() for weight in weights)),
        (c_long * count)(*(weight.rows for weight in weights)),
        columns,
        x.data_ptr(),
        rows,
        rows if exact is None else exact,
        norm.data_ptr() if norm is not None else None,
        eps,
        residual.data_ptr() if residual is not None else None,
        by,
        (c_void_p * count)(*(out.data_ptr() for out in outs)),
    )
    return outs


def linear_twin(x: Tensor, weight: Packed) -> Tensor:
    """The same in plain torch, all rows exact. Where a processor multiplies bf16 itself
    (AVX512-BF16), bf16 weights natively meet activations rounded to bf16: this of `x.bfloat16()`,
    to 1e-5 of the sum of the products' magnitudes, and up to 2^-9 of that sum from this of `x`."""
    seen = x.float() if weight.format == "bf16" else quantized(x.float())
    return F.linear(seen, unpack(weight))


def bulk_twin(x: Tensor, weight: Packed) -> Tensor:
    """The same for rows that are not exact, on a processor with AMX. bf16: products of bf16. Else,
    of each `PANEL` columns, activations are rounded to -127..127 times a scale, and so are a row's
    weights: each is its integer times its scale's share in theirs, in 15 bits."""
    if weight.format == "bf16":
        return F.linear(x.bfloat16().float(), unpack(weight))
    values, scale, minimum = _panels(weight)
    up = {"int8": 0, "int6": 2, "int4": 4, "int4m": 5}[weight.format]  # to -128..127
    farthest, top = 128 >> up, 127
    ends = (scale * farthest, scale * 0)
    if weight.format == "int4m":
        ends, top = (scale * 15 - minimum, minimum), 126
    most = torch.stack(ends).abs().amax((0, -1), keepdim=True)[0]
    units = torch.where(most > 0, most.new_tensor(top) / most, 0)  # as in `quantized`
    shares = (scale * units * (32768 >> up)).round()
    rounded = (values * 2**up * shares / 32768 + 0.5).floor() - (minimum * units).round()
    matrix = (rounded * (most / top)).flatten(1)[: weight.rows, : weight.columns]
    return F.linear(quantized(x.float(), PANEL), matrix)


def fine_twin(x: Tensor, weight: Packed) -> Tensor:
    """The same for rows that are not exact and int8, with AVX2 alone: of each `PANEL` columns,
    activations are rounded to -2047..2047 times a scale, and a row's weights to 32nds of its
    largest scale (each scale beforehand to a 4096th of it)."""
    values, scale, _ = _panels(weight)
    most = scale.abs().amax(-1, keepdim=True)
    shares = (scale * (4096 / torch.where(most > 0, most, 1))).round()
    rounded = (values * shares / 128 + 0.5).floor() * (most / 32)
    matrix = rounded.flatten(1)[: weight.rows, : weight.columns]
    return F.linear(quantized(x.float(), PANEL, 2047), matrix)


def quantized(x: Tensor, columns: int = BLOCK, most: int = 127) -> Tensor:
    """`x` as the integer kernels see it: of each `columns` rounded to -`most`..`most` times a
    scale. The defaults are those of exact rows."""
    padded = _split(F.pad(x, (0, -x.shape[-1] % columns)), -1, -1, columns)
    largest = padded.abs().amax(-1, keepdim=True)
    # `127 / x` is 127 * (1 / x)
    inverse = largest.new_tensor(most) / torch.where(largest > 0, largest, 1)
    rounded = (padded * inverse).round()
    return (rounded * (largest / most)).flatten(-2)[..., : x.shape[-1]]


def rows_of(weight: Packed, ids: Tensor) -> Tensor:
    """Rows `ids` [n] int64 of the weight, fp32 [n, columns]: an embedding. Raises IndexError for an
    id that has no row, as torch does."""
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < weight.rows:
        raise IndexError(f"token ids are below 0 or above {weight.rows - 1}")
    kernels = library()
    if kernels is None:
        return rows_twin(weight, ids)
    ids = ids.contiguous()
    out = torch.empty(len(ids), weight.columns)
    kernels.puna_rows(
        CODES[weight.format],
        weight.data.data_ptr(),
        weight.columns,
        ids.data_ptr(),
        len(ids),
        out.data_ptr(),
    )
    return out


def rows_twin(weight: Packed, ids: Tensor) -> Tensor:
    """The same in plain torch: unpacks the rows of blocks that hold them."""
    blocks = Packed(weight.data[ids // BLOCK], weight.format, len(ids) * BLOCK, weight.columns)
    return unpack(blocks)[torch.arange(len(ids)) * BLOCK + ids % BLOCK]


def _panels(weight: Packed) -> tuple[Tensor, ...]:
    """Integers, scales and minima of a weight, each fp32 [rows, panels, `PANEL`], padded."""
    parts = _PARTS[weight.format](weight.data)
    across = weight.data.shape[1] * BLOCK_COLUMNS[weight.format]
    return tuple(
        _split(F.pad(_matrix(part.expand_as(parts[0])), (0, -across % PANEL)), -1, -1, PANEL)
        for part in parts
    )


def _matrix(blocks: Tensor) -> Tensor:
    """[down, across, 32 rows, columns] as [down * 32, across * columns]."""
    return blocks.transpose(1, 2).flatten(2).flatten(0, 1)


def _split(x: Tensor, dim: int, *sizes: int) -> Tensor:
    return cast(Tensor, x.unflatten(dim, sizes))


# --- blocks: fp32 [down, across, 32 rows, columns] <-> uint8 [down, across, bytes] ---------------
#
# What a block says comes in parts: a weight is its integer times its scale, less its minimum.


def _pack_bf16(blocks: Tensor) -> Tensor:
    pairs = _split(blocks.to(torch.bfloat16), -1, 16, 2).transpose(2, 3)
    return pairs.contiguous().view(torch.uint8).flatten(2)


def _values_bf16(data: Tensor) -> Tensor:
    pairs = _split(data.view(torch.bfloat16), -1, 16, BLOCK, 2)
    return pairs.transpose(2, 3).flatten(3).float()


def _pack_int8(blocks: Tensor) -> Tensor:
    scale = (blocks.abs().amax(-1, keepdim=True) / 127).half()
    return _lay_out_int8(_rounded(blocks, scale).clamp(-127, 127).add(128).to(torch.uint8), scale)


def _lay_out_int8(values: Tensor, scale: Tensor) -> Tensor:
    return _joined(_bytes(scale), _split(values, -1, 8, 4).transpose(-2, -3))


def _parts_int8(data: Tensor) -> Parts:
    values = _split(data[..., 64:], -1, 8, BLOCK, 4).transpose(-2, -3).flatten(-2).float() - 128
    return values, _halves(data[..., :64]), _NONE


def _pack_int4(blocks: Tensor) -> Tensor:
    scale = (_farthest(blocks) / -8).half()
    return _lay_out_int4(_rounded(blocks, scale).clamp(-8, 7).add(8).to(torch.uint8), scale)


def _lay_out_int4(values: Tensor, scale: Tensor) -> Tensor:
    return _joined(_bytes(scale), _nibbles(values))


def _parts_int4(data: Tensor) -> Parts:
    return _from_nibbles(data[..., 64:]).float() - 8, _halves(data[..., :64]), _NONE


def _pack_int6(blocks: Tensor) -> Tensor:
    groups = _split(blocks, -1, 16, 16)
    wanted = _farthest(groups).squeeze(-1) / -32
    scale = _at_least(wanted.abs().amax(-1, keepdim=True) / 127)
    scales = _rounded(wanted, scale)
    values = _rounded(groups, (scales * scale.float()).unsqueeze(-1)).clamp(-32, 31).add(32)
    return _lay_out_int6(values.to(torch.uint8).flatten(-2), scales.to(torch.int8), scale)


def _lay_out_int6(values: Tensor, scales: Tensor, scale: Tensor) -> Tensor:
    groups = _split(values, -1, 8, 32).transpose(-2, -3)  # [..., 8, rows, 32]
    quarters = _split(groups >> 4, -1, 2, 4, 4) << _TWO_BITS
    high = quarters.sum(-2, dtype=torch.uint8).transpose(-2, -3)
    own = _split(scales.view(torch.uint8), -1, 8, 2).movedim(-3, -1)
    return _joined(_bytes(scale), _joined(own, _nibbles(groups & 15), high, keep=3))


def _parts_int6(data: Tensor) -> Parts:
    groups = _split(data[..., 64:], -1, 8, 832)
    scales = _split(groups[..., :64].view(torch.int8), -1, 2, BLOCK).movedim(-1, -3).flatten(-2)
    quarters = _split(groups[..., 576:], -1, 2, BLOCK, 4).transpose(-2, -3).unsqueeze(-2)
    high = (quarters >> _TWO_BITS & 3).flatten(-3)
    values = (_from_nibbles(groups[..., 64:576]) | high << 4).transpose(-2, -3).flatten(-2)
    scale = scales.float().repeat_interleave(16, -1) * _halves(data[..., :64])
    return values.float() - 32, scale, _NONE


def _pack_int4m(blocks: Tensor) -> Tensor:
    groups = _split(blocks, -1, 8, 32)
    least = groups.amin(-1).clamp(max=0)
    wanted = (groups.amax(-1) - least) / 15
    scale = _at_least(wanted.amax(-1, keepdim=True) / 255)
    minimum = _at_least(-least.amin(-1, keepdim=True) / 255)
    scales, minima = _rounded(wanted, scale), _rounded(-least, minimum)
    above = groups + (minima * minimum.float()).unsqueeze(-1)
    values = _rounded(above, (scales * scale.float()).unsqueeze(-1)).clamp(0, 15).flatten(-2)
    values, scales, minima = (each.to(torch.uint8) for each in (values, scales, minima))
    return _lay_out_int4m(values, scales, scale, minima, minimum)


def _lay_out_int4m(
    values: Tensor, scales: Tensor, scale: Tensor, minima: Tensor, minimum: Tensor
) -> Tensor:
    groups = _split(values, -1, 8, 32).transpose(-2, -3)
    own = _joined(
        scales.transpose(-1, -2).unsqueeze(-1), minima.transpose(-1, -2).unsqueeze(-1),
        _nibbles(groups), keep=3,
    )  # fmt: skip
    return _joined(_bytes(scale), _bytes(minimum), own)


def _parts_int4m(data: Tensor) -> Parts:
    groups = _split(data[..., 128:], -1, 8, 576)
    values = _from_nibbles(groups[..., 64:]).transpose(-2, -3).flatten(-2).float()
    scales, minima = (
        groups[..., first : first + 32].transpose(-1, -2).float().repeat_interleave(32, -1)
        for first in (0, 32)
    )
    return values, scales * _halves(data[..., :64]), minima * _halves(data[..., 64:128])


_NONE = torch.tensor(0.0)
_TWO_BITS = torch.tensor([0, 2, 4, 6], dtype=torch.uint8).unsqueeze(-1)


def _nibbles(values: Tensor) -> Tensor:
    """0..15 [..., 32 rows, 32 columns] as uint8 [..., 4, 32 rows, 4]."""
    low, high = _split(values, -1, 4, 2, 4).unbind(-2)
    return (low | high << 4).transpose(-2, -3)


def _from_nibbles(data: Tensor) -> Tensor:
    both = _split(data, -1, 4, BLOCK, 4).transpose(-2, -3)
    return torch.stack((both & 15, both >> 4), dim=-2).flatten(-3)


def _farthest(values: Tensor) -> Tensor:
    """The one of largest magnitude on the last axis, with its sign."""
    return values.gather(-1, values.abs().argmax(-1, keepdim=True))


def _rounded(values: Tensor, scale: Tensor) -> Tensor:
    wide = scale.float()
    return torch.where(wide == 0, 0, values / torch.where(wide == 0, 1, wide)).round()


def _at_least(scale: Tensor) -> Tensor:
    """fp16, rounded up: what is divided by it keeps within its range, however small."""
    near = scale.half()
    above = (near.view(torch.int16) + 1).view(torch.float16)
    return torch.where(near.float() < scale, above, near)


def _joined(*parts: Tensor, keep: int = 2) -> Tensor:
    """All axes but the first `keep` laid end to end."""
    return torch.cat([part.flatten(keep) for part in parts], dim=-1)


def _bytes(halves: Tensor) -> Tensor:
    return halves.squeeze(-1).contiguous().view(torch.uint8)


def _halves(data: Tensor) -> Tensor:
    return data.contiguous().view(torch.float16).float().unsqueeze(-1)


_PACK = {
    "bf16": _pack_bf16,
    "int8": _pack_int8,
    "int6": _pack_int6,
    "int4m": _pack_int4m,
    "int4": _pack_int4,
}
_LAY_OUT = {
    "int8": _lay_out_int8,
    "int6": _lay_out_int6,
    "int4m": _lay_out_int4m,
    "int4": _lay_out_int4,
}
_PARTS = {
    "int8": _parts_int8,
    "int6": _parts_int6,
    "int4m": _parts_int4m,
    "int4": _parts_int4,
}
