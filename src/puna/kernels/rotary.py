"""Rotary position embedding (2104.09864) in half-split order: feature i turns with i + head_dim/2.

Angles and products are fp32 whatever the model's dtype: in bf16 the angle of position 4097 is
already wrong by whole turns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from puna.kernels import native


def rotary_table(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines, fp32 [rows, 1, head_dim / 2], of `positions` [rows] times `frequencies`
    [head_dim / 2] (radians a token)."""
    angles = torch.outer(positions.float(), frequencies).unsqueeze(1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each head of `x` [rows, heads, head_dim] by its row's angles."""
    kernels = native.for_tensors(x, cos, sin)
    if kernels is None:
        return rotate_twin(x, cos, sin)
    x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
    out = torch.empty_like(x)
    kernels.puna_rotate(x.data_ptr(), cos.data_ptr(), sin.data_ptr(), *x.shape, out.data_ptr())
    return out


def rotate_twin(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The same in plain torch."""
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)
