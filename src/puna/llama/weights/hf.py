"""Hugging Face's layout: safetensors, one file or many with an index, and `config.json`.

Tensors are memory-mapped: on the CPU, in the dtype they are stored in, loading copies nothing.
The names of both generations of vision checkpoints are read (transformers 4's, as published, and
transformers 5's). It knows no other layout and no device.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puna.errors import CheckpointError
from puna.llama.shapes import Shape
from puna.llama.tokenizer import Tokenizer
from puna.llama.weights.checkpoint import Checkpoint, copied, equal
from puna.llama.weights.fields import Fields, listed, read_json, show
from puna.llama.weights.hf_config import read_config, read_generation
from puna.llama.weights.safetensors_file import open_safetensors

_DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_RENAMED = (
    ("model.language_model.", "model."),  # transformers 5
    ("model.vision_model.", "vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("language_model.", ""),  # transformers 4
)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors$")


class HFCheckpoint(Checkpoint):
    def __init__(self, path: Path, files: list[Path]) -> None:
        directory = files[0].parent
        self.path = path
        self.config = read_config(directory)
        self.generation = read_generation(directory)
        self._directory = directory
        self._where: dict[str, tuple[Any, str]] = {}
        """Canonical name -> (open file, the file's own name)."""
        self._shapes: dict[str, Shape] = {}
        weights = Counter[torch.dtype]()
        for file in _weight_files(directory, path, files):
            weights += self._open(file)
        self.stored_dtype = weights.most_common(1)[0][0] if weights else torch.bfloat16
        self.layout = "Hugging Face safetensors"
        if self.config.tie_word_embeddings and "lm_head.weight" in self._where:
            self._drop_tied_head()

    def stored_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        file, stored_name = self._where[name]
        tensor: Tensor = file.get_tensor(stored_name)
        return copied(tensor.to(dtype).contiguous(), tensor)

    def _open_tokenizer(self) -> Tokenizer:
        return Tokenizer.from_directory(self._directory)

    def _open(self, path: Path) -> Counter[torch.dtype]:
        """Take up a file's tensors; how many numbers of each dtype it holds."""
        numbers = Counter[torch.dtype]()
        file, stored = open_safetensors(path, "download it again")
        for stored_name, (shape, dtype) in stored.items():
            name = canonical_name(stored_name)
            if name.endswith("rotary_emb.inv_freq"):
                continue  # old converters stored it; the config says the same
            if dtype not in _DTYPES:
                raise CheckpointError(
                    f"{path}: {stored_name} is stored as {dtype}: Puna reads {listed(_DTYPES)}. "
                    "Use the model in bfloat16, or as GGUF"
                )
            if name in self._where:
                raise CheckpointError(f"{path}: {stored_name} is there twice: keep one")
            self._where[name] = file, stored_name
            self._shapes[name] = shape
            numbers[_DTYPES[dtype]] += torch.Size(shape).numel()
        return numbers

    def _drop_tied_head(self) -> None:
        """A tied model may hold the embedding twice; another head would not be a tied model."""
        names = ("lm_head.weight", "model.embed_tokens.weight")
        if names[1] not in self._where:
            return  # `check` tells
        head, embedding = (self.read(name, self.stored_dtype) for name in names)
        if not equal(head, embedding):
            raise CheckpointError(
                f"{self._directory}: config.json says tie_word_embeddings, but lm_head.weight "
                "differs from the embedding: set it to false there if the head is meant"
            )
        del self._where["lm_head.weight"], self._shapes["lm_head.weight"]


def canonical_name(name: str) -> str:
    """A tensor's name as `puna.llama.shapes` has it."""
    for prefix, replacement in _RENAMED:
        if name.startswith(prefix):
            return replacement + name.removeprefix(prefix)
    return name


def _weight_files(directory: Path, path: Path, files: list[Path]) -> list[Path]:
    """The files of the one checkpoint in a folder that holds these safetensors."""
    if path.is_file() and not _SHARD.search(path.name):
        return [path]
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        return _indexed(index)
    shards = [file for file in files if _SHARD.search(file.name)]
    if shards:
        _check_complete(directory, shards)
        return shards
    if len(files) == 1:
        return files
    if (directory / "model.safetensors") in files:
        return [directory / "model.safetensors"]
    raise CheckpointError(
        f"{directory} holds several safetensors and no index ({listed(f.name for f in files)}): "
        "name the one you mean"
    )


def _indexed(index: Path) -> list[Path]:
    fields = Fields(read_json(index), index)
    mapping = fields.fields("weight_map", "an object of tensor names and files")
    names = {mapping.text(tensor) for tensor in mapping}
    for name in names:
        if Path(name).name != name or "\0" in name:
            raise CheckpointError(f"{index}: {show(name)} is no plain file name")
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    if missing:
        raise CheckpointError(
            f"{index} names files that are not there ({listed(missing)}): the download is "
            "incomplete; run it again"
        )
    return [index.parent / name for name in sorted(names)]


def _check_complete(directory: Path, shards: list[Path]) -> None:
    """Without an index, the names say how many files there must be."""
    numbers = [match.groups() for file in shards if (match := _SHARD.search(file.name))]
    totals = {int(total) for _, total in numbers}
    present = {int(number) for number, _ in numbers}
    if len(totals) != 1 or present != set(range(1, totals.pop() + 1)):
        raise CheckpointError(
            f"{directory} holds {len(shards)} of the shards that their names promise "
            f"({listed(file.name for file in shards)}): the download is incomplete"
        )
