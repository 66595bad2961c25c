"""Which weights are packed for the native kernels, and in how many bits each.

Projections, the embedding and the head are packed; norms, gates and position embeddings stay fp32.
With int4 the parts that a few bits would hurt most keep 8: the head (and so a tied embedding),
cross-attention layers, the vision encoder and the projector. It knows names and shapes, no tensors.
"""

from __future__ import annotations

import math

from puna.kernels.packed import BLOCK, BLOCK_BYTES, Format
from puna.llama.config import LlamaConfig
from puna.llama.shapes import Shape, tensor_shapes

_PROJECTIONS = frozenset(f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")) | {
    "fc1",
    "fc2",
    "multi_modal_projector",
    "lm_head",
    "embed_tokens",
}


def format_of(name: str, config: LlamaConfig, form: Format) -> Format | None:
    """The format of a tensor, by its canonical name, in a model packed as `form`; None: fp32."""
    parts = name.split(".")
    if parts[-1] != "weight" or parts[-2] not in _PROJECTIONS:
        return None
    return "int8" if form == "int4" and _is_delicate(parts, config) else form


def packed_bytes(config: LlamaConfig, form: Format) -> int:
    """What the weights of a model packed as `form` take."""
    return sum(
        _bytes_of(shape, format_of(name, config, form))
        for name, shape in tensor_shapes(config).items()
    )


def _is_delicate(parts: list[str], config: LlamaConfig) -> bool:
    if parts[-2] == "embed_tokens":
        return config.tie_word_embeddings
    if parts[-2] == "lm_head" or parts[0] != "model":
        return True
    return int(parts[2]) in config.cross_attention_layers


def _bytes_of(shape: Shape, form: Format | None) -> int:
    if form is None:
        return 4 * math.prod(shape)
    rows, columns = shape
    return -(-rows // BLOCK) * -(-columns // BLOCK) * BLOCK_BYTES[form]
