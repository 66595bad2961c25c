"""Writes the averaged weights of a run as a Hugging Face checkpoint in bfloat16."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from training.text.batches import Encoder
from training.text.model import CONFIG
from training.text.tokenizer import SPECIALS


def export(run: Path, folder: Path) -> None:
    """config.json, generation_config.json and model.safetensors; the tokenizer is there already."""
    encode = Encoder()
    ids = {name: encode.tokenizer.token_to_id(f"<|{name}|>") for name in SPECIALS}
    stops = [ids["end_of_text"], ids["eom_id"], ids["eot_id"]]
    common = {
        "bos_token_id": ids["begin_of_text"],
        "eos_token_id": stops,
        "pad_token_id": ids["finetune_right_pad_id"],
    }
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIG, "vocab_size": encode.vocab_size, **common}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").write_text(
        json.dumps({**common, "do_sample": False}, indent=2) + "\n"
    )
    weights = torch.load(run / "checkpoint.pt", weights_only=True)["average"]
    save_file(
        {name: w.to(torch.bfloat16).contiguous() for name, w in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for the owner alone
