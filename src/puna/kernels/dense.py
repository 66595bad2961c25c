"""The row-wise functions: projection, norm and gate.

They know nothing of sequences: what a row gives does not depend on its neighbours.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T`: [..., in] and [out, in] give [..., out]."""
    return F.linear(x, weight)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis, computed in fp32 (1910.07467)."""
    wide = x.float()
    scale = wide.square().mean(-1, keepdim=True).add(eps).rsqrt()
    return (wide * scale).to(x.dtype) * weight


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """`silu(gate) * up` (2002.05202)."""
    return F.silu(gate) * up
