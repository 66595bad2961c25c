"""`config.json` and `generation_config.json` (Hugging Face) -> `LlamaConfig`, `GenerationDefaults`.

Reads the published files and those that transformers 4 and 5 save. Whatever in them would change
the model's numbers and is not honoured here is refused by name. It knows no tensors.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from puna.errors import CheckpointError
from puna.llama.config import LlamaConfig, RopeScaling, VisionConfig
from puna.llama.weights.check_config import check_config
from puna.llama.weights.checkpoint import GenerationDefaults, aspect_ratios
from puna.llama.weights.fields import Fields, read_json, show

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "mllama": "MllamaForConditionalGeneration"}
_MOST_LAYERS = 1024


def read_config(directory: Path) -> LlamaConfig:
    """Raises CheckpointError when the model is none of Llama 3's, or is quantised."""
    fields = Fields(read_json(directory / "config.json"), directory / "config.json")
    family = _family(fields)
    _refuse_quantised(fields)
    generation = _generation_fields(directory)
    config = _vision_model(fields, generation) if family == "mllama" else _text(fields, generation)
    check_config(config, fields.where)
    return config


def read_generation(directory: Path) -> GenerationDefaults:
    """Llama's published defaults where `generation_config.json` is absent or says nothing."""
    fields = _generation_fields(directory)
    if fields is None:
        return GenerationDefaults()
    not_honoured = tuple(
        f"{name}={show(fields.raw(name))}"
        for name, neutral in _NOT_HONOURED.items()
        if name in fields and fields.raw(name) not in neutral
    )
    if not any(name in fields for name in ("do_sample", "temperature", "top_p", "top_k")):
        return GenerationDefaults(not_honoured=not_honoured)
    if not fields.boolean("do_sample", True):
        return GenerationDefaults(temperature=0.0, top_p=1.0, not_honoured=not_honoured)
    top_p = fields.number("top_p", 1.0)
    if top_p > 1:
        raise fields.error("top_p", "a number above 0, at most 1")
    return GenerationDefaults(
        temperature=fields.number("temperature", 1.0, above=-1e-9),
        top_p=top_p,
        # 0 switches it off. transformers means 50 where it is absent; no published Llama relies
        # on that, and other engines do not limit.
        top_k=fields.integer("top_k", 0, least=0) or None,
        not_honoured=not_honoured,
    )


_NOT_HONOURED: dict[str, tuple[object, ...]] = {
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "min_p": (0.0,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "top_h": (),
    "num_beams": (1,),
    "penalty_alpha": (0.0,),
    "min_new_tokens": (0,),
    "min_length": (0,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({},),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1.0,),
}


def _family(fields: Fields) -> str:
    architectures = fields.raw("architectures")
    if "model_type" not in fields and architectures is None:
        raise CheckpointError(
            f"{fields.where} names no model_type: is this a checkpoint's config.json?"
        )
    family = fields.text("model_type") if "model_type" in fields else None
    if family in ("mllama_text_model", "mllama_vision_model"):
        raise CheckpointError(
            f"{fields.where} describes one half of a vision model ({family}): Puna needs the "
            "whole, MllamaForConditionalGeneration"
        )
    if family is not None and family not in _ARCHITECTURES:
        raise CheckpointError(
            f"{fields.where} describes a model of type {show(family)}: Puna runs Llama 3.1 and "
            "3.2 (llama, mllama)"
        )
    for name, architecture in _ARCHITECTURES.items():
        if architectures in (None, [architecture]) and family in (None, name):
            return name
    raise CheckpointError(
        f"{fields.where}: architectures is {show(architectures)}, expected "
        f"{' or '.join(_ARCHITECTURES.values())}"
    )


def _refuse_quantised(fields: Fields) -> None:
    if "quantization_config" not in fields:
        return
    method = fields.fields("quantization_config").raw("quant_method")
    raise CheckpointError(
        f"{fields.where}: the weights are quantised ({show(method)}), which is not read. Use the "
        "same model in bfloat16, or as GGUF in Q8_0, Q6_K, Q4_K or Q4_0"
    )


def _generation_fields(directory: Path) -> Fields | None:
    path = directory / "generation_config.json"
    return Fields(read_json(path), path) if path.exists() else None


def _text(fields: Fields, generation: Fields | None) -> LlamaConfig:
    fields.only("hidden_act", "silu")
    fields.only("attention_bias", False)
    fields.only("mlp_bias", False)
    fields.only("sliding_window", None)
    fields.only("partial_rotary_factor", 1.0)
    heads = fields.integer("num_attention_heads")
    width = fields.integer("hidden_size")
    if "head_dim" not in fields and width % heads:
        raise fields.error("hidden_size", f"a multiple of num_attention_heads ({heads})")
    theta, scaling = _rope(fields)
    return LlamaConfig(
        hidden_size=width,
        num_hidden_layers=fields.integer("num_hidden_layers", most=_MOST_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=fields.integer("num_key_value_heads", heads),
        intermediate_size=fields.integer("intermediate_size"),
        head_dim=fields.integer("head_dim", max(width // heads, 1)),
        vocab_size=fields.integer("vocab_size"),
        max_position_embeddings=fields.integer("max_position_embeddings"),
        rope_theta=theta,
        rope_scaling=scaling,
        rms_norm_eps=fields.number("rms_norm_eps"),
        tie_word_embeddings=fields.boolean("tie_word_embeddings", False),
        bos_token_id=_token_ids("bos_token_id", generation, fields, 128000)[0],
        eos_token_ids=_token_ids("eos_token_id", generation, fields, None),
    )


def _token_ids(
    name: str, generation: Fields | None, fields: Fields, default: int | None
) -> tuple[int, ...]:
    """From `generation_config.json` before `config.json`, as transformers does."""
    if generation is not None and name in generation:
        fields = generation
    ids = fields.integers(name, None if default is None else (default,))
    if not ids:
        raise fields.error(name, "at least one token id")
    return ids


def _rope(fields: Fields) -> tuple[float, RopeScaling | None]:
    # transformers 5 puts rope_theta and rope_scaling together into rope_parameters.
    inner = fields.fields("rope_parameters") if "rope_parameters" in fields else None
    theta = (inner if inner and "rope_theta" in inner else fields).number("rope_theta", 10000.0)
    if inner is None:
        if "rope_scaling" not in fields:
            return theta, None
        inner = fields.fields("rope_scaling")
    name = "rope_type" if "rope_type" in inner or "type" not in inner else "type"
    if inner.text(name, "default") == "default":
        return theta, None
    inner.only(name, "llama3", "default", reason="Llama's own way to stretch the context")
    return theta, RopeScaling(
        factor=inner.number("factor"),
        low_freq_factor=inner.number("low_freq_factor"),
        high_freq_factor=inner.number("high_freq_factor"),
        original_max_position_embeddings=inner.integer("original_max_position_embeddings"),
    )


def _vision_model(fields: Fields, generation: Fields | None) -> LlamaConfig:
    text = fields.fields("text_config")
    _refuse_quantised(text)
    config = _text(text, generation)
    vision = _vision(fields.fields("vision_config"))
    image_token = fields.integer("image_token_index", config.vocab_size)
    if image_token != config.vocab_size:
        raise fields.error("image_token_index", f"vocab_size ({config.vocab_size})")
    layers = text.integers("cross_attention_layers")
    if not layers:
        raise text.error("cross_attention_layers", "at least one layer")
    if config.tie_word_embeddings:
        raise text.error("tie_word_embeddings", "false, in a vision model")
    return replace(config, cross_attention_layers=layers, vision=vision)


def _vision(fields: Fields) -> VisionConfig:
    """Absent values have transformers' defaults, which its `save_pretrained` may leave out."""
    fields.only("hidden_act", "gelu")
    fields.only("num_channels", 3)
    tiles = fields.integer("max_num_tiles", 4, most=64)
    heads = "attention_heads" if "attention_heads" in fields else "num_attention_heads"
    vision = VisionConfig(
        hidden_size=fields.integer("hidden_size", 1280),
        num_attention_heads=fields.integer(heads, 16),
        intermediate_size=fields.integer("intermediate_size", 5120),
        num_hidden_layers=fields.integer("num_hidden_layers", 32, most=_MOST_LAYERS),
        num_global_layers=fields.integer("num_global_layers", 8, most=_MOST_LAYERS),
        patch_size=fields.integer("patch_size", 14),
        image_size=fields.integer("image_size", 448),
        max_num_tiles=tiles,
        intermediate_layers_indices=fields.integers(
            "intermediate_layers_indices", (3, 7, 15, 23, 30)
        ),
        supported_aspect_ratios=_ratios(fields, tiles),
        norm_eps=fields.number("norm_eps", 1e-5),
    )
    fields.only("vision_output_dim", vision.vision_output_dim)
    return vision


def _ratios(fields: Fields, tiles: int) -> tuple[tuple[int, int], ...]:
    name, expected = "supported_aspect_ratios", "a list of [height, width], in tiles"
    if name not in fields:
        return aspect_ratios(tiles)
    pairs = fields.items(name, expected)
    ratios = [(h, w) for h, w in map(_pair, pairs) if 0 < h * w <= tiles]
    if not 0 < len(ratios) == len(pairs) <= 4096:
        raise fields.error(name, expected + f", of 1 to {tiles} tiles each")
    return tuple(ratios)


def _pair(value: object) -> tuple[int, int]:
    match value:
        case [int(height), int(width)] if height > 0:
            return height, width
        case _:
            return 0, 0
