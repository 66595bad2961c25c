"""Packed weights: a matrix cut into blocks of 32 rows by 32 columns, in few bits, read in order.

Three formats, laid out as `native/formats.h` draws them:

| format | bytes a block | value | error |
|---|---|---|---|
| bf16 | 2048 | the weight, rounded to bf16 | |
| int8 | 1088 | fp16 scale a row of the block, times -127..127 | half a scale |
| int4 | 576 | fp16 scale a row of the block, times -8..7 | half a scale |

The scale of int4 belongs to the value of largest magnitude, which becomes -8 exactly. ggml's Q4_0
does the same, so that such weights are packed without loss, but not those made with an importance
matrix, which has scales of its own: they are rounded once more. int8 and int4 are multiplied
as integers: activations are rounded to 8 bits with a scale for each 32 columns, as `linear_twin`
shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.kernels.native import for_tensors, library

Format: TypeAlias = Literal["bf16", "int8", "int4"]

CODES: dict[Format, int] = {"bf16": 0, "int8": 1, "int4": 2}
BLOCK_BYTES: dict[Format, int] = {"bf16": 2048, "int8": 1088, "int4": 576}
BLOCK = 32

# Weights packed at a time, so that packing a model takes little more memory than the result.
_PACKED_AT_ONCE = 1 << 24


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
    down, across = -(-rows // BLOCK), -(-columns // BLOCK)
    data = torch.empty(down, across, BLOCK_BYTES[form], dtype=torch.uint8)
    step = max(1, _PACKED_AT_ONCE // (across * BLOCK * BLOCK))
    for first in range(0, down, step):
        part = weight[first * BLOCK : (first + step) * BLOCK].float()
        padded = F.pad(part, (0, across * BLOCK - columns, 0, -part.shape[0] % BLOCK))
        blocks = _split(_split(padded, 1, across, BLOCK), 0, -1, BLOCK).transpose(1, 2)
        data[first : first + step] = _PACK[form](blocks)
    return Packed(data, form, rows, columns)


def assemble(
    parts: Iterable[tuple[Tensor, Tensor]], rows: int, columns: int, form: Format
) -> Packed:
    """A weight made of integers and scales that are there already: nothing is rounded.

    `parts` are its rows from the top, a multiple of 32 in each but the last: `values` uint8
    [n, columns], where 128 (int8) or 8 (int4) means zero, and `scales` fp16 [n, columns / 32].
    """
    down, across = -(-rows // BLOCK), columns // BLOCK
    data = torch.empty(down, across, BLOCK_BYTES[form], dtype=torch.uint8)
    first = 0
    for values, scales in parts:
        padding = (0, 0, 0, -len(values) % BLOCK)
        blocks = F.pad(values, padding).view(-1, BLOCK, across, BLOCK).transpose(1, 2)
        scale = F.pad(scales, padding).view(-1, BLOCK, across, 1).transpose(1, 2)
        data[first : first + len(blocks)] = _LAY_OUT[form](scale, blocks)
        first += len(blocks)
    return Packed(data, form, rows, columns)


def unpack(packed: Packed) -> Tensor:
    """What the packed weight says, fp32 [rows, columns]."""
    blocks = _UNPACK[packed.format](packed.data)
    return blocks.transpose(1, 2).flatten(2).flatten(0, 1)[: packed.rows, : packed.columns]


def linear(x: Tensor, weight: Packed) -> Tensor:
    """`x @ weight.T`, fp32 [..., columns] to [..., rows]."""
    kernels = for_tensors(x)
    if kernels is None:
        return linear_twin(x, weight)
    x = x.contiguous()
    out = x.new_empty(*x.shape[:-1], weight.rows)
    kernels.puna_linear(
        CODES[weight.format],
        weight.data.data_ptr(),
        weight.rows,
        weight.columns,
        x.data_ptr(),
        x.numel() // weight.columns,
        out.data_ptr(),
    )
    return out


def linear_twin(x: Tensor, weight: Packed) -> Tensor:
    """The same in plain torch."""
    seen = x.float() if weight.format == "bf16" else quantized(x.float())
    return F.linear(seen, unpack(weight))


def quantized(x: Tensor) -> Tensor:
    """`x` as the integer kernels see it: each 32 columns rounded to -127..127 times a scale."""
    padded = _split(F.pad(x, (0, -x.shape[-1] % BLOCK)), -1, -1, BLOCK)
    scale = padded.abs().amax(-1, keepdim=True) / 127
    rounded = (padded / torch.where(scale > 0, scale, 1)).round()
    return (rounded * scale).flatten(-2)[..., : x.shape[-1]]


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


def _split(x: Tensor, dim: int, *sizes: int) -> Tensor:
    return cast(Tensor, x.unflatten(dim, sizes))


# --- blocks: fp32 [down, across, 32 rows, 32 columns] <-> uint8 [down, across, bytes] -----------


def _pack_bf16(blocks: Tensor) -> Tensor:
    pairs = _split(blocks.to(torch.bfloat16), -1, 16, 2).transpose(2, 3)
    return pairs.contiguous().view(torch.uint8).flatten(2)


def _unpack_bf16(data: Tensor) -> Tensor:
    pairs = _split(data.view(torch.bfloat16), -1, 16, BLOCK, 2)
    return pairs.transpose(2, 3).flatten(3).float()


def _pack_int8(blocks: Tensor) -> Tensor:
    scale = (blocks.abs().amax(-1, keepdim=True) / 127).half()
    return _lay_out_int8(scale, _rounded(blocks, scale).clamp(-127, 127).add(128).to(torch.uint8))


def _lay_out_int8(scale: Tensor, values: Tensor) -> Tensor:
    return _with_scales(scale, _split(values, -1, 8, 4).transpose(2, 3))


def _unpack_int8(data: Tensor) -> Tensor:
    scale, body = _scales_of(data)
    values = _split(body, -1, 8, BLOCK, 4).transpose(2, 3).flatten(3)
    return (values.float() - 128) * scale


def _pack_int4(blocks: Tensor) -> Tensor:
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scale = (largest / -8).half()
    return _lay_out_int4(scale, _rounded(blocks, scale).clamp(-8, 7).add(8).to(torch.uint8))


def _lay_out_int4(scale: Tensor, values: Tensor) -> Tensor:
    low, high = _split(values, -1, 4, 2, 4).unbind(-2)
    return _with_scales(scale, (low | (high << 4)).transpose(2, 3))


def _unpack_int4(data: Tensor) -> Tensor:
    scale, body = _scales_of(data)
    both = _split(body, -1, 4, BLOCK, 4).transpose(2, 3)
    values = torch.stack((both & 15, both >> 4), dim=-2).flatten(3)
    return (values.float() - 8) * scale


def _rounded(blocks: Tensor, scale: Tensor) -> Tensor:
    wide = scale.float()
    return torch.where(wide == 0, 0, blocks / torch.where(wide == 0, 1, wide)).round()


def _with_scales(scale: Tensor, body: Tensor) -> Tensor:
    return torch.cat((scale.squeeze(-1).contiguous().view(torch.uint8), body.flatten(2)), dim=-1)


def _scales_of(data: Tensor) -> tuple[Tensor, Tensor]:
    scale = data[..., : 2 * BLOCK].contiguous().view(torch.float16).float()
    return scale.unsqueeze(-1), data[..., 2 * BLOCK :]


_PACK = {"bf16": _pack_bf16, "int8": _pack_int8, "int4": _pack_int4}
_LAY_OUT = {"int8": _lay_out_int8, "int4": _lay_out_int4}
_UNPACK = {"bf16": _unpack_bf16, "int8": _unpack_int8, "int4": _unpack_int4}
