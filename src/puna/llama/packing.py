"""Which weights are packed for the native kernels, and in how many bits each.

Projections, the embedding and the head are packed; norms, gates and position embeddings stay fp32.
With int4 the parts that a few bits would hurt most keep more: the head (and so a tied embedding)
6; cross-attention layers, the vision encoder and the projector 8. `stored` means: as the checkpoint
has them, if it has them packed, and bf16 for the rest. It knows names and shapes, no tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

from puna.kernels.packed import BLOCK_BYTES, Format, blocks_of
from puna.llama.config import LlamaConfig
from puna.llama.shapes import Shape, tensor_shapes

Packing: TypeAlias = Format | Literal["stored"]
StoredFormat: TypeAlias = Callable[[str], Format | None]
"""Canonical name -> the format in which a checkpoint has that tensor."""

_PROJECTIONS = frozenset(f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")) | {
    "fc1",
    "fc2",
    "multi_modal_projector",
    "lm_head",
    "embed_tokens",
}


def _unpacked(_: str) -> Format | None:
    return None


def format_of(
    name: str, config: LlamaConfig, packing: Packing, stored: StoredFormat = _unpacked
) -> Format | None:
    """The format of a tensor, by its canonical name, in a model packed as `packing`; None: fp32."""
    parts = name.split(".")
    if parts[-1] != "weight" or parts[-2] not in _PROJECTIONS:
        return None
    if packing == "stored":
        return stored(name) or "bf16"
    if packing != "int4":
        return packing
    if _is_head(parts, config):
        return "int6"
    return "int8" if _is_delicate(parts, config) else "int4"


def packed_bytes(config: LlamaConfig, packing: Packing, stored: StoredFormat = _unpacked) -> int:
    """What the weights of a model packed as `packing` take."""
    return sum(
        tensor_bytes(shape, format_of(name, config, packing, stored))
        for name, shape in tensor_shapes(config).items()
    )


def tensor_bytes(shape: Shape, form: Format | None) -> int:
    """What a tensor takes, packed as `form` or in fp32."""
    return math.prod(block_shape(shape, form)) if form else 4 * math.prod(shape)


def block_shape(shape: Shape, form: Format) -> Shape:
    """The shape of a packed matrix's bytes."""
    rows, columns = shape
    return *blocks_of(rows, columns, form), BLOCK_BYTES[form]


def _is_head(parts: list[str], config: LlamaConfig) -> bool:
    return parts[-2] == "lm_head" or (parts[-2] == "embed_tokens" and config.tie_word_embeddings)


def _is_delicate(parts: list[str], config: LlamaConfig) -> bool:
    if parts[-2] == "embed_tokens":
        return False
    return parts[0] != "model" or int(parts[2]) in config.cross_attention_layers
