"""`params.json` (Meta) -> `LlamaConfig`, with what Meta's files leave unsaid.

- The rotary factor. `use_scaled_rope` says only that there is scaling. It is 8 in Llama 3.1 and in
  the vision models, and 32 in 3.2 1B and 3B: the models whose head is tied, of width 2048 and 3072.
  (Meta's own reference code applies 8 to all.)
- The context: 131072 with scaling (3.1 and later), else 8192 (3.0).
- The special tokens: the last 256 ids of the vocabulary, `<|begin_of_text|>` first.
- The vision encoder: sizes are read off the tensors; 16 heads and the five intermediate layers are
  constants of Meta's code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from puna.errors import CheckpointError
from puna.llama.config import LlamaConfig, RopeScaling, VisionConfig
from puna.llama.weights.check_config import check_config
from puna.llama.weights.checkpoint import aspect_ratios
from puna.llama.weights.fields import Fields, read_json

NUM_SPECIAL_TOKENS = 256
_FACTOR_32_WIDTHS = (2048, 3072)
_ENCODER = "vision_model.vision_encoder."


def read_params(path: Path, state: Mapping[str, Tensor], *, tied: bool) -> LlamaConfig:
    """The config that `params.json` and the names and shapes of `state` (any shard's) describe."""
    outer = Fields(read_json(path), path)
    fields = outer.fields("model") if "model" in outer else outer
    for name in ("quantization_args", "lora_args", "moe_args"):
        if name in fields:
            raise fields.error(name, "nothing: use the plain bfloat16 checkpoint, or GGUF")
    width = fields.integer("dim")
    heads = fields.integer("n_heads")
    layers = fields.integer("n_layers", most=1024)
    if width % heads:
        raise fields.error("dim", f"a multiple of n_heads ({heads})")
    vocab_size = _vocab_size(fields)
    vision, cross = None, ()
    if fields.integer("vision_chunk_size", -1, least=-1) > 0:
        count = fields.integer("vision_num_cross_attention_layers", most=layers)
        vision, cross = _vision(fields, state), cross_attention_layers(layers, count)
    scaled = fields.boolean("use_scaled_rope", False)
    factor = 32.0 if vision is None and (tied or width in _FACTOR_32_WIDTHS) else 8.0
    first_special = vocab_size - NUM_SPECIAL_TOKENS
    config = LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers + len(cross),
        num_attention_heads=heads,
        num_key_value_heads=fields.integer("n_kv_heads", heads),
        intermediate_size=intermediate_size(
            width,
            fields.integer("multiple_of", 256),
            fields.number("ffn_dim_multiplier", 1.0),
        ),
        head_dim=width // heads,
        vocab_size=vocab_size,
        max_position_embeddings=131072 if scaled else 8192,
        rope_theta=fields.number("rope_theta", 500000.0),
        rope_scaling=RopeScaling(factor) if scaled else None,
        rms_norm_eps=fields.number("norm_eps", 1e-5),
        tie_word_embeddings=tied,
        bos_token_id=first_special,
        eos_token_ids=(first_special + 1, first_special + 8, first_special + 9),
        cross_attention_layers=cross,
        vision=vision,
    )
    check_config(config, fields.where)
    return config


def intermediate_size(width: int, multiple_of: int, multiplier: float) -> int:
    """Meta's rule: two thirds of four times the width, stretched, rounded up."""
    size = int(multiplier * int(8 * width / 3))
    return -(-size // multiple_of) * multiple_of


def cross_attention_layers(self_layers: int, count: int) -> tuple[int, ...]:
    """Hugging Face's numbers of the cross-attention layers.

    Meta puts one before every k-th self-attention layer, counted from the last.
    """
    step = math.ceil(self_layers / count)
    before = sorted(range(self_layers - 1, -1, -step)[:count])
    return tuple(layer + order for order, layer in enumerate(before))


def _vocab_size(fields: Fields) -> int:
    size = fields.raw("vocab_size")
    if size == -1 or size == 32000:
        raise CheckpointError(
            f"{fields.where} describes a Llama 1 or 2 (vocab_size {size}): Puna runs Llama 3.1 "
            "and 3.2"
        )
    return fields.integer("vocab_size", least=NUM_SPECIAL_TOKENS + 1)


def _vision(fields: Fields, state: Mapping[str, Tensor]) -> VisionConfig:
    width = _length(fields, state, "class_embedding", 0)
    # In shards, these two are cut along the dimension that is not asked for here.
    patch_size = math.isqrt(_length(fields, state, "conv1._linear.weight", 1) // 3)
    tiles = fields.integer("vision_max_num_chunks", 4, most=64)
    return VisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=_count_layers(fields, state, "transformer"),
        num_global_layers=_count_layers(fields, state, "global_transformer"),
        patch_size=max(patch_size, 1),
        image_size=fields.integer("vision_chunk_size"),
        max_num_tiles=tiles,
        supported_aspect_ratios=aspect_ratios(tiles),
    )


def _length(fields: Fields, state: Mapping[str, Tensor], name: str, dim: int) -> int:
    tensor = state.get(_ENCODER + name)
    if tensor is None or tensor.ndim <= dim or tensor.shape[dim] < 1:
        raise CheckpointError(
            f"{fields.where} describes a vision model, but {_ENCODER}{name} is missing or empty: "
            "params.json and weights are of different checkpoints"
        )
    return tensor.shape[dim]


def _count_layers(fields: Fields, state: Mapping[str, Tensor], part: str) -> int:
    pattern = re.compile(re.escape(_ENCODER + part) + r"\.resblocks\.(\d+)\.")
    numbers = {int(match[1]) for name in state if (match := pattern.match(name))}
    if not numbers:
        raise CheckpointError(
            f"{fields.where} describes a vision model, but its weights hold no {part}"
        )
    return len(numbers)
