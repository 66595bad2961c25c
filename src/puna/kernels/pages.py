"""Keys and values in pages of a cache: how they lie, how rows get there, how they are read again.

| dtype | [num_pages, kv_heads, ...] of keys | of values |
|---|---|---|
| a float | head_dim, page_size | page_size, head_dim |
| int8 | head_dim + 2, page_size | head_dim + 2, page_size |

Keys lie head_dim first, so that a page of them is one vector for each feature. In int8 each token
and head has a bf16 scale: a head's block of a page is `page_size` scales, then whole numbers in the
order in which integer products want them, as `native/attention.h` draws it. It knows no owners.
"""

from __future__ import annotations

import math
from ctypes import CDLL
from typing import cast

import torch
from torch import Tensor

from puna.kernels import native

PAGE = 16  # tokens a page, in the native kernels
CODES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}

_SCALE = 2  # bytes
_LARGE = 2**26  # bytes; what is smaller may stay in small pages of memory, and so waste nothing


def new_pages(
    num_pages: int,
    kv_heads: int,
    head_dim: int,
    page_size: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Keys and values, their content undefined. int8 wants even `head_dim` and `page_size`."""
    if dtype == torch.int8:
        both = [(num_pages, kv_heads, head_dim + _SCALE, page_size)] * 2
    else:
        both = [
            (num_pages, kv_heads, head_dim, page_size),
            (num_pages, kv_heads, page_size, head_dim),
        ]
    keys, values = (torch.empty(shape, dtype=dtype, device=device) for shape in both)
    kernels = native.library()
    if keys.is_cpu and kernels is not None and keys.nbytes >= _LARGE:
        for tensor in (keys, values):
            kernels.puna_large_pages(tensor.data_ptr(), tensor.nbytes)
    return keys, values


def bytes_per_token(kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
    """What keys and values of one token take in one layer."""
    head = head_dim + _SCALE if dtype == torch.int8 else head_dim * dtype.itemsize
    return 2 * kv_heads * head


def store(keys: Tensor, values: Tensor, slots: Tensor, k: Tensor, v: Tensor) -> None:
    """Write rows `k`, `v` [rows, kv_heads, head_dim] into the pages, in place: slot s is page
    s // page_size, place s % page_size."""
    kernels = native_for(keys, k.shape[-1], k, v)
    if kernels is None:
        store_twin(keys, values, slots, k, v)
        return
    k, v, slots = k.contiguous(), v.contiguous(), slots.contiguous()
    kernels.puna_store(
        CODES[keys.dtype],
        keys.data_ptr(),
        values.data_ptr(),
        slots.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        *k.shape,
    )


def store_twin(keys: Tensor, values: Tensor, slots: Tensor, k: Tensor, v: Tensor) -> None:
    """The same in plain torch."""
    page_size = keys.shape[3]
    pages, places = slots // page_size, slots % page_size
    if keys.dtype != torch.int8:
        keys[pages, :, :, places] = k.to(keys.dtype)
        values[pages, :, places] = v.to(values.dtype)
        return
    whole, scale = _to_int8(k)
    scales, body = _parts(keys)
    scales[pages, :, places] = scale
    _key_pairs(body, page_size)[pages, :, places] = _split(whole)
    whole, scale = _to_int8(v)
    scales, body = _parts(values)
    scales[pages, :, places] = scale
    half, blocks = page_size // 2, _value_blocks(body, page_size)
    blocks[pages, :, places // half, places % half] = whole.unflatten(-1, blocks.shape[4:])


def read(keys: Tensor, values: Tensor, pages: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """The first `tokens` keys and values of `pages` [n], each [kv_heads, tokens, head_dim]."""
    # `index_select` copies page by page: `keys[pages]` takes five times as long.
    k, v = keys.index_select(0, pages), values.index_select(0, pages)
    if keys.dtype == torch.int8:
        size = keys.shape[3]
        scales, body = _parts(k)
        k = _key_pairs(body, size).flatten(3).float() * scales.float().unsqueeze(-1)
        scales, body = _parts(v)
        v = _value_blocks(body, size).flatten(4).flatten(2, 3)
        v = v.float() * scales.float().unsqueeze(-1)
    else:
        k = k.transpose(2, 3)
    return (
        k.transpose(0, 1).flatten(1, 2)[:, :tokens],
        v.transpose(0, 1).flatten(1, 2)[:, :tokens],
    )


def native_for(keys: Tensor, head_dim: int, *rows: Tensor) -> CDLL | None:
    """The compiled kernels, where they can take such pages and `rows`."""
    fits = head_dim % 16 == 0 and keys.shape[3] == PAGE and keys.dtype in CODES
    return native.for_tensors(*rows) if fits and keys.is_cpu else None


def _to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers -127..127 [rows, kv_heads, head_dim] and their scale, bf16 [rows, kv_heads],
    rounded up so that none is larger; infinite where a row holds what is no number."""
    wide = rows.float()
    exact = wide.abs().amax(-1) / 127
    scale = (exact.view(torch.int32) + 0xFFFF >> 16).to(torch.int16).view(torch.bfloat16)
    scale = torch.where(exact < 1e-32, 0, torch.where(exact.isfinite(), scale, torch.inf))
    inverse = torch.where(scale > 0, 1 / scale.float(), 0).unsqueeze(-1)
    return (wide * inverse).nan_to_num(0).round().to(torch.int8), scale


def _split(whole: Tensor) -> Tensor:
    return cast(Tensor, whole.unflatten(-1, (-1, 2)))


def _parts(block: Tensor) -> tuple[Tensor, Tensor]:
    """Views: scales [pages, heads, page_size] and what lies behind them."""
    flat = block.flatten(2)
    split = _SCALE * block.shape[3]
    return flat[..., :split].view(torch.bfloat16), flat[..., split:]


def _key_pairs(body: Tensor, page_size: int) -> Tensor:
    """View [pages, heads, page_size, head_dim / 2, 2]."""
    return cast(Tensor, body.unflatten(-1, (-1, page_size, 2))).permute(0, 1, 3, 2, 4)


def _value_blocks(body: Tensor, page_size: int) -> Tensor:
    """View [pages, heads, 2, page_size / 2, head_dim / 16, 16], of smaller blocks where 16 does
    not divide head_dim."""
    block = math.gcd(body.shape[-1] // page_size, 16)
    blocks = cast(Tensor, body.unflatten(-1, (-1, page_size // 2, block, 2)))
    return blocks.permute(0, 1, 5, 3, 2, 4)
