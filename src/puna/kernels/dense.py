"""The row-wise functions: projection, norm, gate and argmax, and those that go together.

They know nothing of sequences: what a row gives does not depend on its neighbours. `exact`: how
many rows at the beginning are, where that matters, which is beside packed weights (None: all).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.kernels import native, packed
from puna.kernels.packed import Packed

# Widened this many weights at a time, half-precision weights meet their rows in the cache.
_WIDENED_WEIGHTS = 1 << 19


def linear(
    x: Tensor, weight: Tensor | Packed, bias: Tensor | None = None, exact: int | None = None
) -> Tensor:
    """`x @ weight.T + bias`: [..., in], [out, in] and [out] give [..., out]; fp32 if packed."""
    if isinstance(weight, Packed):
        product = packed.linear(x.float(), weight, exact)
        return product if bias is None else product + bias
    if _halves_are_slow(x):
        return _linear_widened(x, weight, bias)
    return F.linear(x, weight, bias)


def linear_add(
    x: Tensor,
    weight: Tensor | Packed,
    residual: Tensor,
    by: Tensor | None = None,
    exact: int | None = None,
) -> Tensor:
    """`residual + by * linear(x, weight)`; `by` [1]."""
    kernels = native.for_tensors(x, residual)
    if kernels is not None and isinstance(weight, Packed):
        factor = 1.0 if by is None else float(by)
        return packed.linear_add(kernels, x, weight, residual, factor, exact)
    product = linear(x, weight, exact=exact)
    return residual + (product if by is None else by * product)


def norm_linear(
    x: Tensor,
    norm: Tensor,
    eps: float,
    weights: Sequence[Tensor | Packed],
    exact: int | None = None,
) -> tuple[Tensor, ...]:
    """`linear(rms_norm(x, norm, eps), weight)` for each weight."""
    kernels = native.for_tensors(x, norm)
    if kernels is not None and _all_packed(weights):
        return packed.norm_linear(kernels, x, norm, eps, weights, exact)
    normed = rms_norm(x, norm, eps)
    return tuple(linear(normed, weight, exact=exact) for weight in weights)


def norm_swiglu(
    x: Tensor,
    norm: Tensor,
    eps: float,
    gate: Tensor | Packed,
    up: Tensor | Packed,
    exact: int | None = None,
) -> Tensor:
    """`swiglu(linear(y, gate), linear(y, up))` with `y = rms_norm(x, norm, eps)`."""
    kernels = native.for_tensors(x, norm)
    if kernels is not None and isinstance(gate, Packed) and isinstance(up, Packed):
        return packed.norm_swiglu(kernels, x, norm, eps, gate, up, exact)
    return swiglu(*norm_linear(x, norm, eps, (gate, up), exact))


def embedding(ids: Tensor, weight: Tensor | Packed) -> Tensor:
    """Rows `ids` [n] of `weight` [rows, width]: [n, width]; fp32 if packed."""
    if isinstance(weight, Packed):
        return packed.rows_of(weight, ids)
    return F.embedding(ids, weight)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis, computed in fp32 (1910.07467)."""
    kernels = native.for_tensors(x, weight)
    if kernels is not None:
        x = x.contiguous()
        out = torch.empty_like(x)
        width = x.shape[-1]
        kernels.puna_rms_norm(
            x.data_ptr(), weight.data_ptr(), eps, x.numel() // width, width, out.data_ptr()
        )
        return out
    return rms_norm_twin(x, weight, eps)


def rms_norm_twin(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same in plain torch."""
    wide = x.float()
    scale = wide.square().mean(-1, keepdim=True).add(eps).rsqrt()
    return (wide * scale).to(x.dtype) * weight


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """`silu(gate) * up` (2002.05202)."""
    kernels = native.for_tensors(gate, up)
    if kernels is None:
        return swiglu_twin(gate, up)
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    width = gate.shape[-1]
    kernels.puna_swiglu(
        gate.data_ptr(), up.data_ptr(), gate.numel() // width, width, out.data_ptr()
    )
    return out


def swiglu_twin(gate: Tensor, up: Tensor) -> Tensor:
    """The same in plain torch."""
    return F.silu(gate) * up


def argmax(x: Tensor) -> tuple[Tensor, Tensor]:
    """Where the greatest of each row of `x` [rows, width] first stands, and what it is: int64 and
    as `x`, [rows]. NaN counts as the greatest."""
    kernels = native.for_tensors(x)
    if kernels is None or not x.numel():
        return argmax_twin(x)
    x = x.contiguous()
    ids, peaks = x.new_empty(len(x), dtype=torch.int64), x.new_empty(len(x))
    kernels.puna_argmax(x.data_ptr(), *x.shape, ids.data_ptr(), peaks.data_ptr())
    return ids, peaks


def argmax_twin(x: Tensor) -> tuple[Tensor, Tensor]:
    """The same in plain torch."""
    ids = x.argmax(-1)
    return ids, x.gather(1, ids[:, None])[:, 0]


def _all_packed(weights: Sequence[Tensor | Packed]) -> TypeGuard[Sequence[Packed]]:
    return all(isinstance(weight, Packed) for weight in weights)


def _halves_are_slow(x: Tensor) -> bool:
    """Without AVX-512 torch multiplies halves at a sixth of fp32's speed, but for one row or two,
    where reading the weights is all that counts."""
    return (
        x.is_cpu
        and x.dtype in (torch.bfloat16, torch.float16)
        and x.numel() >= 3 * x.shape[-1]
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT", "NO AVX")
    )


def _linear_widened(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    wide = x.float()
    out = x.new_empty(*x.shape[:-1], weight.shape[0])
    columns = max(1, _WIDENED_WEIGHTS // weight.shape[1])
    for start in range(0, weight.shape[0], columns):
        end = start + columns
        part = None if bias is None else bias[start:end].float()
        out[..., start:end] = F.linear(wide, weight[start:end].float(), part)
    return out
