"""Every tensor of a Llama, by name and shape, as a function of its config alone.

Names are Hugging Face's (transformers 4's Mllama names less `language_model.`), rotary weights in
half-split order. It knows no files, no tensors and no torch: reading a checkpoint means to find
each of these, whatever the file calls it, and counting them gives what a model weighs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from puna.llama.config import LlamaConfig, VisionConfig

Shape = tuple[int, ...]


def tensor_shapes(config: LlamaConfig) -> dict[str, Shape]:
    """Canonical name -> shape, in the order in which the tensors are used."""
    shapes = dict(_vision(config.vision)) if config.vision else {}
    if config.vision:
        shapes["multi_modal_projector.weight"] = (
            config.hidden_size,
            config.vision.vision_output_dim,
        )
        shapes["multi_modal_projector.bias"] = (config.hidden_size,)
    shapes["model.embed_tokens.weight"] = (config.num_embeddings, config.hidden_size)
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        part = _cross if layer in config.cross_attention_layers else _self
        shapes |= {prefix + name: shape for name, shape in part(config)}
    shapes["model.norm.weight"] = (config.hidden_size,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, config.hidden_size)
    return shapes


def count_parameters(config: LlamaConfig) -> int:
    """Numbers in all tensors together (a tied head counts once)."""
    return count_elements(tensor_shapes(config))


def count_elements(shapes: Mapping[str, Shape]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


Named = Iterator[tuple[str, Shape]]


def _attention(config: LlamaConfig, name: str) -> Named:
    query = config.num_attention_heads * config.head_dim
    key = config.num_key_value_heads * config.head_dim
    yield f"{name}.q_proj.weight", (query, config.hidden_size)
    yield f"{name}.k_proj.weight", (key, config.hidden_size)
    yield f"{name}.v_proj.weight", (key, config.hidden_size)
    yield f"{name}.o_proj.weight", (config.hidden_size, query)


def _mlp_and_norms(config: LlamaConfig) -> Named:
    yield "mlp.gate_proj.weight", (config.intermediate_size, config.hidden_size)
    yield "mlp.up_proj.weight", (config.intermediate_size, config.hidden_size)
    yield "mlp.down_proj.weight", (config.hidden_size, config.intermediate_size)
    yield "input_layernorm.weight", (config.hidden_size,)
    yield "post_attention_layernorm.weight", (config.hidden_size,)


def _self(config: LlamaConfig) -> Named:
    yield from _attention(config, "self_attn")
    yield from _mlp_and_norms(config)


def _cross(config: LlamaConfig) -> Named:
    yield from _attention(config, "cross_attn")
    yield "cross_attn.q_norm.weight", (config.head_dim,)
    yield "cross_attn.k_norm.weight", (config.head_dim,)
    yield from _mlp_and_norms(config)
    yield "cross_attn_attn_gate", (1,)
    yield "cross_attn_mlp_gate", (1,)


def _vision(vision: VisionConfig) -> Named:
    width, prefix = vision.hidden_size, "vision_model."
    ratios = len(vision.supported_aspect_ratios) + 1  # id 0 is padding
    tiles = vision.max_num_tiles
    yield prefix + "patch_embedding.weight", (width, 3, vision.patch_size, vision.patch_size)
    yield prefix + "class_embedding", (width,)
    position = prefix + "gated_positional_embedding."
    yield position + "gate", (1,)
    yield position + "embedding", (vision.num_patches, width)
    yield position + "tile_embedding.weight", (ratios, tiles * vision.num_patches * width)
    for side in ("pre", "post"):
        yield f"{prefix}{side}_tile_positional_embedding.gate", (1,)
        yield f"{prefix}{side}_tile_positional_embedding.embedding.weight", (ratios, tiles * width)
        yield f"{prefix}layernorm_{side}.weight", (width,)
        yield f"{prefix}layernorm_{side}.bias", (width,)
    for layer in range(vision.num_hidden_layers):
        yield from _vision_layer(vision, f"{prefix}transformer.layers.{layer}.")
    for layer in range(vision.num_global_layers):
        layer_prefix = f"{prefix}global_transformer.layers.{layer}."
        yield from _vision_layer(vision, layer_prefix)
        yield layer_prefix + "gate_attn", (1,)
        yield layer_prefix + "gate_ffn", (1,)


def _vision_layer(vision: VisionConfig, prefix: str) -> Named:
    width = vision.hidden_size
    for name in ("q", "k", "v", "o"):
        yield f"{prefix}self_attn.{name}_proj.weight", (width, width)
    yield prefix + "mlp.fc1.weight", (vision.intermediate_size, width)
    yield prefix + "mlp.fc1.bias", (vision.intermediate_size,)
    yield prefix + "mlp.fc2.weight", (width, vision.intermediate_size)
    yield prefix + "mlp.fc2.bias", (width,)
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield f"{prefix}{norm}.weight", (width,)
        yield f"{prefix}{norm}.bias", (width,)
