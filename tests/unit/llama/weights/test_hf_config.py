"""`config.json` and `generation_config.json`: the published values read, the others refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from puna.errors import CheckpointError
from puna.llama.catalog import CATALOG, find
from puna.llama.config import LlamaConfig
from puna.llama.weights.hf_config import read_config, read_generation
from tests.checkpoints import TINY_TEXT, TINY_VISION, hf_config, write_json

PUBLISHED_3_1_8B = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.42.3",
    "use_cache": True,
    "vocab_size": 128256,
}
PUBLISHED_3_2_1B = PUBLISHED_3_1_8B | {
    "head_dim": 64,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "rope_scaling": {**PUBLISHED_3_1_8B["rope_scaling"], "factor": 32.0},  # type: ignore[dict-item]
    "tie_word_embeddings": True,
}
PUBLISHED_3_8B = PUBLISHED_3_1_8B | {
    "eos_token_id": 128009,
    "max_position_embeddings": 8192,
    "rope_scaling": None,
}
PUBLISHED_GENERATION = {
    "bos_token_id": 128000,
    "do_sample": True,
    "eos_token_id": [128001, 128008, 128009],
    "temperature": 0.6,
    "top_p": 0.9,
    "transformers_version": "4.42.3",
}


def parsed(
    directory: Path, config: dict[str, Any], generation: dict[str, Any] | None = None
) -> LlamaConfig:
    write_json(directory / "config.json", config)
    if generation is not None:
        write_json(directory / "generation_config.json", generation)
    return read_config(directory)


def refused(directory: Path, config: dict[str, Any]) -> str:
    with pytest.raises(CheckpointError) as caught:
        parsed(directory, config)
    assert len(str(caught.value).splitlines()) == 1
    assert str(directory / "config.json") in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "published"),
    [("Llama-3.1-8B-Instruct", PUBLISHED_3_1_8B), ("Llama-3.2-1B-Instruct", PUBLISHED_3_2_1B)],
)
def test_the_published_configs_are_those_of_the_catalog(
    tmp_path: Path, name: str, published: dict[str, Any]
) -> None:
    model = find(name)
    assert model is not None
    assert parsed(tmp_path, published) == model.config


def test_llama_3_0_loads_without_scaling_and_with_its_two_stops(tmp_path: Path) -> None:
    config = parsed(tmp_path, PUBLISHED_3_8B, {"eos_token_id": [128001, 128009]})
    model = find("Meta-Llama-3-8B-Instruct")
    assert model is not None
    assert config == model.config


@pytest.mark.parametrize("model", [m for m in CATALOG if m.config], ids=lambda m: m.name)
@pytest.mark.parametrize("naming", ["v4", "v5"])
def test_every_model_of_the_catalog_survives_both_ways_to_write_its_config(
    tmp_path: Path, model: Any, naming: Any
) -> None:
    assert parsed(tmp_path, hf_config(model.config, naming=naming)) == model.config


def test_the_vision_base_model_is_read_at_448_pixels(tmp_path: Path) -> None:
    config = hf_config(TINY_VISION)
    config["vision_config"]["image_size"] = 448
    vision = parsed(tmp_path, config).vision
    assert vision is not None
    assert vision.image_size == 448
    assert vision.num_patches == 1025


def test_stops_come_from_generation_config_before_config(tmp_path: Path) -> None:
    assert parsed(tmp_path, PUBLISHED_3_1_8B, {"eos_token_id": 7}).eos_token_ids == (7,)
    assert parsed(tmp_path, PUBLISHED_3_1_8B, {}).eos_token_ids == (128001, 128008, 128009)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention_bias", True),
        ("mlp_bias", True),
        ("hidden_act", "gelu"),
        ("hidden_act", "relu"),
        ("sliding_window", 4096),
        ("partial_rotary_factor", 0.5),
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("rope_scaling", {"type": "dynamic", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "longrope"}),
        ("rope_scaling", {"rope_type": "llama3"}),
        ("rope_scaling", {**PUBLISHED_3_1_8B["rope_scaling"], "low_freq_factor": 4.0}),
        ("rope_scaling", "llama3"),
        ("rope_parameters", {"rope_type": "yarn"}),
        ("hidden_size", "4096"),
        ("hidden_size", -1),
        ("hidden_size", 4097),
        ("hidden_size", 2**40),
        ("hidden_size", True),
        ("hidden_size", None),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 32.0),
        ("num_key_value_heads", 0),
        ("num_attention_heads", None),
        ("head_dim", 63),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", float("nan")),
        ("rms_norm_eps", float("inf")),
        ("rope_theta", -1),
        ("vocab_size", None),
        ("tie_word_embeddings", "yes"),
        ("eos_token_id", None),
        ("eos_token_id", []),
        ("eos_token_id", [1, "2"]),
        ("eos_token_id", -1),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    tmp_path: Path, key: str, value: object
) -> None:
    assert key in refused(tmp_path, PUBLISHED_3_1_8B | {key: value})


@pytest.mark.parametrize(
    ("half", "key", "value"),
    [
        ("vision_config", "hidden_act", "quick_gelu"),
        ("vision_config", "num_channels", 4),
        ("vision_config", "attention_heads", 5),
        ("vision_config", "vision_output_dim", 1),
        ("vision_config", "image_size", 57),
        ("vision_config", "max_num_tiles", 2),
        ("vision_config", "max_num_tiles", 10**6),
        ("vision_config", "intermediate_layers_indices", [0, 99]),
        ("vision_config", "intermediate_layers_indices", [2, 0]),
        ("vision_config", "supported_aspect_ratios", [[1, 9]]),
        ("vision_config", "supported_aspect_ratios", [[0, 0]]),
        ("vision_config", "supported_aspect_ratios", [[-1, -1]]),
        ("vision_config", "supported_aspect_ratios", [1, 2]),
        ("vision_config", "supported_aspect_ratios", []),
        ("text_config", "cross_attention_layers", None),
        ("text_config", "cross_attention_layers", []),
        ("text_config", "cross_attention_layers", [1, 1]),
        ("text_config", "cross_attention_layers", [5]),
        ("text_config", "tie_word_embeddings", True),
    ],
)
def test_what_cannot_be_honoured_in_a_vision_model_is_refused(
    tmp_path: Path, half: str, key: str, value: object
) -> None:
    config = hf_config(TINY_VISION)
    config[half][key] = value
    refused(tmp_path, config)


@pytest.mark.parametrize("half", ["vision_config", "text_config"])
def test_half_a_vision_config_is_refused(tmp_path: Path, half: str) -> None:
    config = hf_config(TINY_VISION)
    del config[half]
    assert half in refused(tmp_path, config)


def test_another_image_token_is_refused(tmp_path: Path) -> None:
    assert "image_token_index" in refused(
        tmp_path, hf_config(TINY_VISION) | {"image_token_index": 5}
    )


@pytest.mark.parametrize("method", ["fp8", "awq", "gptq", "bitsandbytes", "compressed-tensors"])
def test_quantised_models_are_refused_with_what_works_instead(tmp_path: Path, method: str) -> None:
    config = PUBLISHED_3_1_8B | {"quantization_config": {"quant_method": method}}
    message = refused(tmp_path, config)
    assert method in message
    assert "bfloat16" in message
    assert "GGUF" in message


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mistral", "architectures": ["MistralForCausalLM"]},
        {"model_type": "qwen2"},
        {"model_type": "llama4", "architectures": ["Llama4ForConditionalGeneration"]},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"architectures": ["MllamaForConditionalGeneration"]},
        {"architectures": "LlamaForCausalLM"},
        {"architectures": [7]},
        {"model_type": ["llama"]},
        {"model_type": None, "architectures": None},
        {"model_type": "mllama_text_model", "architectures": ["MllamaForCausalLM"]},
    ],
)
def test_other_architectures_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    refused(tmp_path, PUBLISHED_3_1_8B | change)


def test_heads_that_cannot_share_keys_are_refused(tmp_path: Path) -> None:
    assert "cannot share 7" in refused(tmp_path, PUBLISHED_3_1_8B | {"num_key_value_heads": 7})


def test_llama_2_is_refused_by_its_name(tmp_path: Path) -> None:
    llama_2 = PUBLISHED_3_8B | {"vocab_size": 32000, "bos_token_id": 1, "eos_token_id": 2}
    assert "Llama 1 or 2" in refused(tmp_path, llama_2)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"a": ', "7", "[" * 100_000, "\x00\x01"])
def test_a_config_that_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(tmp_path)


def test_an_architecture_is_enough_without_a_model_type(tmp_path: Path) -> None:
    config = {key: value for key, value in PUBLISHED_3_1_8B.items() if key != "model_type"}
    assert parsed(tmp_path, config).hidden_size == 4096


# ---------------------------------------------------------------------------- generation


def test_published_sampling_defaults_are_read(tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", PUBLISHED_GENERATION)
    defaults = read_generation(tmp_path)
    assert (defaults.temperature, defaults.top_p, defaults.top_k) == (0.6, 0.9, None)
    assert defaults.not_honoured == ()


def test_do_sample_false_means_greedy_whatever_else_is_said(tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", PUBLISHED_GENERATION | {"do_sample": False})
    assert read_generation(tmp_path).temperature == 0


def test_without_a_word_on_sampling_llamas_published_defaults_hold(tmp_path: Path) -> None:
    assert read_generation(tmp_path).temperature == 0.6
    write_json(tmp_path / "generation_config.json", {"eos_token_id": 128001})
    assert (read_generation(tmp_path).temperature, read_generation(tmp_path).top_p) == (0.6, 0.9)


def test_a_temperature_without_do_sample_is_meant(tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", {"temperature": 0.3, "top_k": 40})
    defaults = read_generation(tmp_path)
    assert (defaults.temperature, defaults.top_p, defaults.top_k) == (0.3, 1.0, 40)


def test_settings_that_are_not_honoured_are_told_and_neutral_ones_are_not(tmp_path: Path) -> None:
    settings = {"repetition_penalty": 1.05, "min_p": 0.1, "no_repeat_ngram_size": 0, "num_beams": 1}
    write_json(tmp_path / "generation_config.json", PUBLISHED_GENERATION | settings)
    told = read_generation(tmp_path).not_honoured
    assert told == ("repetition_penalty=1.05", "min_p=0.1")


@pytest.mark.parametrize(
    ("key", "value"),
    [("temperature", "hot"), ("temperature", -1), ("top_p", 0), ("top_p", 1.5), ("top_k", -1)],
)
def test_nonsense_in_generation_config_is_refused_by_name(
    tmp_path: Path, key: str, value: object
) -> None:
    write_json(tmp_path / "generation_config.json", PUBLISHED_GENERATION | {key: value})
    with pytest.raises(CheckpointError, match=key):
        read_generation(tmp_path)


def test_a_config_is_a_value_that_can_be_compared(tmp_path: Path) -> None:
    assert parsed(tmp_path, hf_config(TINY_TEXT)) == TINY_TEXT != replace(TINY_TEXT, head_dim=32)
