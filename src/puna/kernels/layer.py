"""A whole self-attention layer of the decoder, in one native call where everything allows it.

It knows the shape of a layer, and no model: weights, cache and rows are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL, Structure, byref, c_double, c_int64, c_void_p
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, cast

import torch
from torch import Tensor

from puna.kernels.attention import PagedSpan, paged_attention
from puna.kernels.dense import linear_add, norm_linear, norm_swiglu
from puna.kernels.packed import CODES as FORMATS
from puna.kernels.packed import Packed
from puna.kernels.pages import CODES as CACHES
from puna.kernels.pages import native_for, store
from puna.kernels.rotary import rotate

Weight = Tensor | Packed


@dataclass(frozen=True)
class Step:
    """What every layer needs to know of a batch, computed once: `slots` [rows] int64, where each
    row's key and value go; `cos` and `sin` as `rotary_table` gives them."""

    spans: Sequence[PagedSpan]
    slots: Tensor
    cos: Tensor
    sin: Tensor

    @cached_property
    def table(self) -> Tensor:
        """int64 [spans, 4]: start, length, context and the address of the page numbers."""
        return torch.tensor(
            [(s.start, s.length, s.context, s.pages.data_ptr()) for s in self.spans]
        )


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """`attention_norm` and `mlp_norm` [width]; the rest are matrices [out, in]."""

    attention_norm: Tensor
    q: Weight
    k: Weight
    v: Weight
    o: Weight
    mlp_norm: Tensor
    gate: Weight
    up: Weight
    down: Weight
    eps: float
    head_dim: int

    @property
    def matrices(self) -> tuple[Weight, ...]:
        return self.q, self.k, self.v, self.o, self.gate, self.up, self.down


def self_attention_layer(
    x: Tensor, weights: LayerWeights, step: Step, keys: Tensor, values: Tensor
) -> Tensor:
    """`h + mlp(norm(h))` with `h = x + attention(norm(x))` (2407.21783): [rows, width]; writes the
    rows' keys and values into the pages of `keys` and `values`."""
    kernels = native_for(keys, weights.head_dim, x, step.cos, weights.attention_norm)
    packed = [each for each in weights.matrices if isinstance(each, Packed)]
    if kernels is None or len(packed) < len(weights.matrices):
        return self_attention_layer_twin(x, weights, step, keys, values)
    return _native(kernels, x, weights, packed, step, keys, values)


def self_attention_layer_twin(
    x: Tensor, weights: LayerWeights, step: Step, keys: Tensor, values: Tensor
) -> Tensor:
    """The same, call by call."""
    projections = (weights.q, weights.k, weights.v)
    q, k, v = (
        cast(Tensor, each.unflatten(-1, (-1, weights.head_dim)))
        for each in norm_linear(x, weights.attention_norm, weights.eps, projections)
    )
    q, k = (rotate(each, step.cos, step.sin) for each in (q, k))
    store(keys, values, step.slots, k, v)
    attended = paged_attention(q, keys, values, step.spans)
    h = linear_add(attended.flatten(1), weights.o, x)
    gated = norm_swiglu(h, weights.mlp_norm, weights.eps, weights.gate, weights.up)
    return linear_add(gated, weights.down, h)


class _Layer(Structure):
    """`Layer` of native/layer.h."""

    _fields_: ClassVar = [
        ("formats", c_int64 * 7),
        ("weights", c_void_p * 7),
        ("ns", c_int64 * 7),
        ("attention_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("eps", c_double),
    ]


def _native(
    kernels: CDLL,
    x: Tensor,
    weights: LayerWeights,
    packed: Sequence[Packed],
    step: Step,
    keys: Tensor,
    values: Tensor,
) -> Tensor:
    x, slots, table = x.contiguous(), step.slots.contiguous(), step.table
    out = torch.empty_like(x)
    layer = _Layer(
        tuple(FORMATS[each.format] for each in packed),
        tuple(each.data.data_ptr() for each in packed),
        tuple(each.rows for each in packed),
        weights.attention_norm.data_ptr(),
        weights.mlp_norm.data_ptr(),
        weights.eps,
    )
    kernels.puna_layer(
        byref(layer),
        CACHES[keys.dtype],
        keys.data_ptr(),
        values.data_ptr(),
        weights.head_dim,
        table.data_ptr(),
        len(table),
        slots.data_ptr(),
        step.cos.data_ptr(),
        step.sin.data_ptr(),
        x.data_ptr(),
        len(x),
        out.data_ptr(),
    )
    return out
