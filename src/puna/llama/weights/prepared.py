"""Puna's own layout: one file whose weights lie as kernels read them, written by `puna quantize`.

Nothing is converted and nothing copied: a packed weight is a view of the mapped file, so a model
is there as soon as it is opened. What the file looks like is `prepared_header.py`'s.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from puna.errors import CheckpointError
from puna.kernels import Format, Packed, give_back, rows_at_once, unpack
from puna.kernels.packed import BLOCK
from puna.llama.packing import block_shape, tensor_bytes
from puna.llama.prepared_header import TOKENIZER, decode, read_header, stored_name
from puna.llama.shapes import Shape, tensor_shapes
from puna.llama.tokenizer import Tokenizer
from puna.llama.weights.check_config import check_config
from puna.llama.weights.checkpoint import Checkpoint, GenerationDefaults
from puna.llama.weights.safetensors_file import open_safetensors

_HEADS = ("model.embed_tokens.weight", "lm_head.weight")


class PreparedCheckpoint(Checkpoint):
    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path = files[0] if path.is_dir() else path
        header = read_header(self.path)
        self.config = header.config
        check_config(self.config, str(self.path))
        self.generation = decode(GenerationDefaults, header.generation, f"{self.path}: generation")
        self._file: Any
        self._file, found = open_safetensors(self.path, "run puna quantize again")
        stored = dict(found)
        self._shapes: dict[str, Shape] = {}
        self._formats: dict[str, Format] = {}
        sizes = Counter[Format]()
        for name, shape in tensor_shapes(self.config).items():
            for form in (None, *get_args(Format)):
                if (there := stored_name(name, form)) in stored:
                    self._take(name, shape, form, stored.pop(there))
                    if form and name not in _HEADS:  # they may keep more bits than the rest
                        sizes[form] += tensor_bytes(shape, form)
        self._has_tokenizer = stored.pop(TOKENIZER, None) is not None
        self._shapes |= {name: shape for name, (shape, _) in stored.items()}
        most = sizes.most_common(1)[0][0] if sizes else "bf16"
        self.quantized = None if most == "bf16" else most
        self.stored_dtype = torch.float16 if self.quantized else torch.bfloat16
        self.layout = f"Puna {most}"

    def _take(
        self, name: str, shape: Shape, form: Format | None, stored: tuple[Shape, str]
    ) -> None:
        if form is None:
            self._shapes[name] = stored[0]
            good = stored[1] == "F32"
        else:
            self._shapes[name], self._formats[name] = shape, form
            good = len(shape) == 2 and stored == (block_shape(shape, form), "U8")
        if not good:  # `check` tells of what is float32 and misshapen
            raise CheckpointError(
                f"{self.path} is corrupt: {stored_name(name, form)} is {stored[1]} "
                f"{list(stored[0])}: run puna quantize again"
            )

    def stored_shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def stored_format(self, name: str) -> Format | None:
        return self._formats.get(name)

    def packed(self, name: str) -> Packed:
        form = self._formats[name]
        rows, columns = self._shapes[name]
        return Packed(self._tensor(stored_name(name, form)), form, rows, columns)

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        if name not in self._formats:
            return self._tensor(name).to(dtype)
        whole = torch.empty(self._shapes[name], dtype=dtype)
        first = 0
        for part in self.parts(name):
            whole[first : first + len(part)] = part
            first += len(part)
        return whole

    def parts(self, name: str) -> Iterator[Tensor]:
        weight = self.packed(name)
        step = rows_at_once(weight.columns)
        for first in range(0, weight.rows, step):
            data = weight.data[first // BLOCK : (first + step) // BLOCK]
            rows = min(step, weight.rows - first)
            yield unpack(Packed(data, weight.format, rows, weight.columns))
            give_back(data)

    def _open_tokenizer(self) -> Tokenizer:
        if not self._has_tokenizer:
            raise CheckpointError(f"{self.path} holds no tokenizer: run puna quantize again")
        try:
            data = self._tensor(TOKENIZER)
            tokenizer = Tokenizer.restore(ctypes.string_at(data.data_ptr(), data.numel()))
            give_back(data)
            return tokenizer
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {error}") from None

    def _tensor(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor
