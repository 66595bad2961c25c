"""ggml's block formats: raw bytes -> numbers, exactly as llama.cpp defines them.

A block is a run of 32 or 256 values of one row that share scales. It knows no files and no names.
Every decoder takes uint8 [blocks, bytes a block] and gives float32 [blocks, values a block]. Where
our own kernels have a format of the same integers and scales, a matrix is also had `repacked`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from puna.kernels import Format, Packed, assemble

CHUNK_VALUES = 2**18
"""Values decoded at a time: a large matrix never stands in float32 as a whole, and a chunk's
intermediate results stay in the processor's cache (measured: twice as fast as 2**22)."""


def _halves(raw: Tensor) -> Tensor:
    """fp16 scales out of bytes: uint8 [n, 2] -> float32 [n, 1]."""
    return raw.contiguous().view(torch.float16).float()


def _nibbles(raw: Tensor) -> Tensor:
    """uint8 [..., n] -> [..., 2, n]: the low halves of the bytes, then the high ones."""
    return torch.stack((raw & 15, raw >> 4), dim=-2)


def _q8_0(blocks: Tensor) -> Tensor:
    return _halves(blocks[:, :2]) * blocks[:, 2:].contiguous().view(torch.int8).float()


def _q4_0(blocks: Tensor) -> Tensor:
    return _halves(blocks[:, :2]) * (_nibbles(blocks[:, 2:]).flatten(1).float() - 8)


def _q8_0_integers(blocks: Tensor) -> tuple[Tensor, ...]:
    return blocks[:, 2:] ^ 128, blocks[:, :2].contiguous().view(torch.float16)


def _q4_0_integers(blocks: Tensor) -> tuple[Tensor, ...]:
    return _nibbles(blocks[:, 2:]).flatten(1), blocks[:, :2].contiguous().view(torch.float16)


def _q4_k(blocks: Tensor) -> Tensor:
    values, scales, d, minima, dmin = _q4_k_integers(blocks)
    scaled = (d.float() * scales.float()).unsqueeze(-1) * values.view(-1, 8, 32).float()
    return (scaled - (dmin.float() * minima.float()).unsqueeze(-1)).flatten(1)


def _q4_k_integers(blocks: Tensor) -> tuple[Tensor, ...]:
    """d, dmin: fp16; 8 scales and 8 minima of 6 bits in 12 bytes; 256 x 4 bits in runs of 32."""
    d, dmin = (blocks[:, at : at + 2].contiguous().view(torch.float16) for at in (0, 2))
    first, second, third = (blocks[:, start : start + 4] for start in (4, 8, 12))
    scales = torch.cat((first & 63, third & 15 | first >> 6 << 4), dim=1)
    minima = torch.cat((second & 63, third >> 4 | second >> 6 << 4), dim=1)
    return _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).flatten(1), scales, d, minima, dmin


def _q6_k(blocks: Tensor) -> Tensor:
    values, scales, d = _q6_k_integers(blocks)
    spread = d.float() * scales.float()
    return (spread.unsqueeze(-1) * (values.view(-1, 16, 16).float() - 32)).flatten(1)


def _q6_k_integers(blocks: Tensor) -> tuple[Tensor, ...]:
    """Low 4 bits of 256 values, then their high 2 bits, 16 int8 scales, d: fp16."""
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 256)
    packed = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    high = torch.cat([packed >> shift & 3 for shift in (0, 2, 4, 6)], dim=2).reshape(-1, 256)
    scales = blocks[:, 192:208].contiguous().view(torch.int8)
    return low | high << 4, scales, blocks[:, 208:].contiguous().view(torch.float16)


@dataclass(frozen=True, slots=True)
class GGMLType:
    """`plain` is set for types that torch has; the others are `block` values in `size` bytes.

    `format` is ours that holds the very same numbers, and `integers` gives what `assemble` makes
    it of, each [blocks, n], from uint8 [blocks, bytes a block].
    """

    name: str
    block: int
    size: int
    plain: torch.dtype | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    format: Format | None = None
    integers: Callable[[Tensor], tuple[Tensor, ...]] | None = None


TYPES = {
    0: GGMLType("F32", 1, 4, torch.float32),
    1: GGMLType("F16", 1, 2, torch.float16),
    2: GGMLType("Q4_0", 32, 18, decode=_q4_0, format="int4", integers=_q4_0_integers),
    8: GGMLType("Q8_0", 32, 34, decode=_q8_0, format="int8", integers=_q8_0_integers),
    12: GGMLType("Q4_K", 256, 144, decode=_q4_k, format="int4m", integers=_q4_k_integers),
    14: GGMLType("Q6_K", 256, 210, decode=_q6_k, format="int6", integers=_q6_k_integers),
    30: GGMLType("BF16", 1, 2, torch.bfloat16),
}
UNREAD = {
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    13: "Q5_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
}
"""Types that exist and are not read, for a message that names them."""


def dequantize(raw: Tensor, kind: GGMLType, dtype: torch.dtype) -> Tensor:
    """Bytes uint8 [n] of whole blocks -> their values in `dtype` [n / size * block]."""
    if kind.decode is None:
        raise ValueError(f"{kind.name} has no blocks to decode")
    blocks = raw.view(-1, kind.size)
    values = torch.empty(len(blocks), kind.block, dtype=dtype)
    step = max(1, CHUNK_VALUES // kind.block)
    for start in range(0, len(blocks), step):
        part = slice(start, start + step)
        values[part] = kind.decode(blocks[part])
    return values.flatten()


def repacked(raw: Iterable[Tensor], rows: int, columns: int, kind: GGMLType) -> Packed:
    """A matrix's bytes -> the same numbers for our kernels. `raw` are its rows from the top, uint8
    [n, bytes a row], n a multiple of 32 in each but the last."""
    form, integers = kind.format, kind.integers
    if form is None or integers is None:
        raise ValueError(f"there is no packed format that holds {kind.name} exactly")
    parts = (
        tuple(each.reshape(len(part), -1) for each in integers(part.reshape(-1, kind.size)))
        for part in raw
    )
    return assemble(parts, rows, columns, form)
