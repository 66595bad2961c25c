"""Self-attention layers of the decoder that follow each other: one native call, where everything
allows it, because what Python does between calls is a good part of a step of one row.

It knows the shape of a layer, and no model: weights, cache and rows are arguments.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from ctypes import CDLL
from dataclasses import dataclass
from functools import cached_property
from typing import cast

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

_FIELDS = 3 * 7 + 4  # of `Layer` in native/layer.h


@dataclass(frozen=True)
class Step:
    """What every layer needs to know of a batch, computed once: `slots` [rows] int64, where each
    row's key and value go; `cos` and `sin` as `rotary_table` gives them. The first `exact` rows
    are; a span's rows are of one kind."""

    spans: Sequence[PagedSpan]
    slots: Tensor
    cos: Tensor
    sin: Tensor
    exact: int

    @property
    def head_dim(self) -> int:
        return 2 * self.cos.shape[-1]

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

    @property
    def norms(self) -> tuple[Tensor, Tensor]:
        return self.attention_norm, self.mlp_norm

    @property
    def matrices(self) -> tuple[Weight, ...]:
        return self.q, self.k, self.v, self.o, self.gate, self.up, self.down


def self_attention_layers(
    x: Tensor,
    layers: Sequence[LayerWeights],
    eps: float,
    step: Step,
    caches: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """Each layer of what the one before it gives, `h + mlp(norm(h))` with `h = x +
    attention(norm(x))` (2407.21783): [rows, width]; writes the rows' keys and values into the pages
    of the layer's cache. All caches are of one shape and dtype."""
    norms = (norm for layer in layers for norm in layer.norms)
    kernels = native_for(caches[0][0], step.head_dim, x, step.cos, *norms)
    table = kernels and _table(layers, caches)
    if kernels is None or table is None:
        return self_attention_layers_twin(x, layers, eps, step, caches)
    return _native(kernels, x, table, eps, step, caches[0][0].dtype)


def self_attention_layers_twin(
    x: Tensor,
    layers: Sequence[LayerWeights],
    eps: float,
    step: Step,
    caches: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """The same, call by call."""
    for layer, (keys, values) in zip(layers, caches, strict=True):
        q, k, v = (
            cast(Tensor, each.unflatten(-1, (-1, step.head_dim)))
            for each in norm_linear(
                x, layer.attention_norm, eps, (layer.q, layer.k, layer.v), step.exact
            )
        )
        q, k = (rotate(each, step.cos, step.sin) for each in (q, k))
        store(keys, values, step.slots, k, v)
        attended = paged_attention(q, keys, values, step.spans, step.exact)
        h = linear_add(attended.flatten(1), layer.o, x, exact=step.exact)
        gated = norm_swiglu(h, layer.mlp_norm, eps, layer.gate, layer.up, step.exact)
        x = linear_add(gated, layer.down, h, exact=step.exact)
    return x


def _table(
    layers: Sequence[LayerWeights], caches: Sequence[tuple[Tensor, Tensor]]
) -> array[int] | None:
    """A `Layer` of native/layer.h for each, one after another; None if not all is packed. Made anew
    in every step, so that nothing has to be told when a model is moved or loaded: it takes 0.1 ms
    for sixteen layers."""
    table = array("q")
    for layer, (keys, values) in zip(layers, caches, strict=True):
        for each in layer.matrices:
            if not isinstance(each, Packed):
                return None
            table.extend((FORMATS[each.format], each.data.data_ptr(), each.rows))
        table.extend(each.data_ptr() for each in (*layer.norms, keys, values))
    return table


def _native(
    kernels: CDLL, x: Tensor, table: array[int], eps: float, step: Step, dtype: torch.dtype
) -> Tensor:
    x, slots, spans = x.contiguous(), step.slots.contiguous(), step.table
    out = torch.empty_like(x)
    kernels.puna_layers(
        table.buffer_info()[0],
        len(table) // _FIELDS,
        CACHES[dtype],
        step.head_dim,
        eps,
        spans.data_ptr(),
        len(spans),
        slots.data_ptr(),
        step.cos.data_ptr(),
        step.sin.data_ptr(),
        x.data_ptr(),
        len(x),
        step.exact,
        out.data_ptr(),
    )
    return out
