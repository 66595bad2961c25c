"""The row-wise functions: projection, norm and gate.

They know nothing of sequences: what a row gives does not depend on its neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Widened this many weights at a time, half-precision weights meet their rows in the cache.
_WIDENED_WEIGHTS = 1 << 19


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`: [..., in], [out, in] and [out] give [..., out]."""
    if _halves_are_slow(x):
        return _linear_widened(x, weight, bias)
    return F.linear(x, weight, bias)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis, computed in fp32 (1910.07467)."""
    wide = x.float()
    scale = wide.square().mean(-1, keepdim=True).add(eps).rsqrt()
    return (wide * scale).to(x.dtype) * weight


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """`silu(gate) * up` (2002.05202)."""
    return F.silu(gate) * up


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
