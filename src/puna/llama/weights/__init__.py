"""Checkpoints from disk: `open_checkpoint(path)` for every layout that Llama 3 comes in.

A layout is told by content, never by a file's name. What comes back describes the model before a
weight is read, so that one too large for the memory can be refused first.

    hf      safetensors + config.json        Hugging Face, one file or many
    meta    consolidated.NN.pth + params.json     Meta, any number of shards
    gguf    one .gguf file                   llama.cpp's, packed or dequantised when read
    prepared    one .puna file               `puna quantize`'s, used where it is mapped
"""

from __future__ import annotations

from pathlib import Path

from puna.llama.weights.checkpoint import Checkpoint, GenerationDefaults
from puna.llama.weights.detect import find_layout
from puna.llama.weights.gguf import GGUFCheckpoint
from puna.llama.weights.hf import HFCheckpoint
from puna.llama.weights.meta import MetaCheckpoint
from puna.llama.weights.prepared import PreparedCheckpoint

__all__ = ["Checkpoint", "GenerationDefaults", "open_checkpoint"]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint folder, or one file of it, and check it against its own description.

    Raises CheckpointError, in one line, when it is missing, truncated, corrupt, mislabelled, of
    another model or of an unknown format.
    """
    path = Path(path)
    layout, files = find_layout(path)
    match layout:
        case "safetensors":
            checkpoint = HFCheckpoint(path, files)
        case "torch":
            checkpoint = MetaCheckpoint(path, files)
        case "gguf":
            checkpoint = GGUFCheckpoint(path, files)
        case "prepared":
            checkpoint = PreparedCheckpoint(path, files)
    checkpoint.check()
    return checkpoint
