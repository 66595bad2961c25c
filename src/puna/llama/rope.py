"""The rotary frequencies of a Llama, from its config. How they are applied is `kernels.rotary`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from puna.llama.config import LlamaConfig, RopeScaling


def rope_frequencies(config: LlamaConfig) -> Tensor:
    """Radians a token, fp32 [head_dim / 2], fast features first; on the CPU always, so that a model
    built on the meta device has them."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device="cpu")
    frequencies = 1.0 / config.rope_theta ** (exponents / config.head_dim)
    if config.rope_divisors is not None:
        return frequencies / torch.tensor(config.rope_divisors, device="cpu")
    if config.rope_scaling is not None:
        return _stretched(frequencies, config.rope_scaling)
    return frequencies


def _stretched(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1's scaling: wavelengths that fit the original context often enough stay, long ones
    are stretched by `factor`, and those between are blended."""
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_max_position_embeddings / wavelengths
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0, 1)
    return (1 - blend) * frequencies / scaling.factor + blend * frequencies
