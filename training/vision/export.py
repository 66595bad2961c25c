"""Writes a run's averaged weights as a Hugging Face Mllama checkpoint in bfloat16."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from puna.llama.config import LlamaConfig
from puna.llama.images import MEAN, STD
from training.vision.data import Words
from training.vision.model import config
from training.vision.train import ROOT, TOKENIZER

FOLDER = ROOT / "src/puna/cria/vision"


def config_json(c: LlamaConfig, words: Words) -> dict[str, Any]:
    assert c.vision
    vision = asdict(c.vision)
    vision["attention_heads"] = vision.pop("num_attention_heads")
    stops = [words.special(name) for name in ("end_of_text", "eom_id", "eot_id")]
    ids = {
        "bos_token_id": words.special("begin_of_text"),
        "eos_token_id": stops,
        "pad_token_id": words.special("finetune_right_pad_id"),
    }
    return {
        "architectures": ["MllamaForConditionalGeneration"],
        "model_type": "mllama",
        "image_token_index": c.vocab_size,
        "torch_dtype": "bfloat16",
        "text_config": {
            "model_type": "mllama_text_model",
            "vocab_size": c.vocab_size,
            "hidden_size": c.hidden_size,
            "num_hidden_layers": c.num_hidden_layers,
            "num_attention_heads": c.num_attention_heads,
            "num_key_value_heads": c.num_key_value_heads,
            "intermediate_size": c.intermediate_size,
            "cross_attention_layers": list(c.cross_attention_layers),
            "hidden_act": "silu",
            "max_position_embeddings": c.max_position_embeddings,
            "rms_norm_eps": c.rms_norm_eps,
            "rope_theta": c.rope_theta,
            "rope_scaling": {"rope_type": "default"},
            "tie_word_embeddings": False,
            **ids,
        },
        "vision_config": {
            "model_type": "mllama_vision_model",
            "hidden_act": "gelu",
            "num_channels": 3,
            "vision_output_dim": c.vision.vision_output_dim,
            **vision,
        },
    }


def export(checkpoint: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    words = Words(TOKENIZER)
    described = config_json(config(words.vocab_size), words)
    text = described["text_config"]
    generation = {
        "bos_token_id": text["bos_token_id"],
        "eos_token_id": text["eos_token_id"],
        "pad_token_id": text["pad_token_id"],
        "do_sample": False,
    }
    size = described["vision_config"]["image_size"]
    preprocessor = {
        "image_processor_type": "MllamaImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_pad": True,
        "rescale_factor": 1 / 255,
        "resample": 2,
        "image_mean": MEAN,
        "image_std": STD,
        "max_image_tiles": 4,
        "size": {"height": size, "width": size},
    }
    files = {
        "config.json": described,
        "generation_config.json": generation,
        "preprocessor_config.json": preprocessor,
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(TOKENIZER.with_name(name), folder / name)
    weights = torch.load(checkpoint, weights_only=True)["average"]
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--checkpoint", type=Path, default=ROOT / "training/runs/vision/checkpoint.pt"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.folder)
