"""The GGUF container, versions 2 and 3: metadata, and where each tensor's bytes lie.

It knows no model: what the names mean is `gguf.py`'s business. No count in the file is believed
before the bytes that it promises are known to be there, so a hostile header costs no memory.
Specification: ggml's docs/gguf.md.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from puna.errors import CheckpointError
from puna.llama.shapes import Shape
from puna.llama.weights.checkpoint import copied
from puna.llama.weights.fields import one_line, show
from puna.llama.weights.ggml_quants import TYPES, UNREAD, GGMLType, dequantize

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"} | {
    10: "Q",
    11: "q",
    12: "d",
}
_TEXT, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """`shape` outermost dimension first, as torch has it; `offset` in bytes from the file's
    start."""

    shape: Shape
    kind: GGMLType
    offset: int
    size: int


class GGUFFile:
    """An opened file: `metadata` (numbers, texts, lists of them) and `tensors` by name.

    Raises CheckpointError when it is truncated or damaged, or holds a type that is not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, object] = {}
        self.tensors: dict[str, StoredTensor] = {}
        try:
            with (
                path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                self._length = len(data)
                self._read_header(_Cursor(data, path))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {one_line(error)}") from None

    @cached_property
    def _bytes(self) -> Tensor:
        """The file as one tensor. Mapped at the first read, so that a model too large for the
        memory can still be described, and refused with its numbers."""
        try:
            if self.path.stat().st_size != self._length:
                raise CheckpointError(f"{self.path} has changed since it was opened: start again")
            return torch.from_file(
                str(self.path), shared=False, size=self._length, dtype=torch.uint8
            )
        except (RuntimeError, OSError) as error:
            raise CheckpointError(f"{self.path} cannot be mapped: {one_line(error)}") from None

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor's values in `dtype`; a view of the file where it holds just them."""
        tensor, raw = self.tensors[name], self.raw(name)
        return copied(self.values(raw, tensor.kind, dtype).view(tensor.shape), raw)

    def raw(self, name: str) -> Tensor:
        """A tensor's bytes, uint8 [size], as they lie in the file."""
        tensor = self.tensors[name]
        return self._bytes[tensor.offset : tensor.offset + tensor.size]

    def copy(self, name: str, dtype: torch.dtype) -> Tensor:
        """The same, read and not mapped: for what describes the model."""
        tensor = self.tensors[name]
        try:
            with self.path.open("rb") as file:
                file.seek(tensor.offset)
                raw = torch.frombuffer(bytearray(file.read(tensor.size)), dtype=torch.uint8)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path} cannot be read: {one_line(error)}") from None
        return self.values(raw, tensor.kind, dtype).view(tensor.shape)

    @staticmethod
    def values(raw: Tensor, kind: GGMLType, dtype: torch.dtype) -> Tensor:
        """What bytes of whole blocks stand for, [n]."""
        raw = raw.flatten()
        if raw.storage_offset() % 4:
            raw = raw.clone()  # a file of unusual alignment
        if kind.plain is None:
            return dequantize(raw, kind, dtype)
        return raw.view(kind.plain).to(dtype)

    def _read_header(self, cursor: _Cursor) -> None:
        cursor.skip(4)
        version = cursor.number("I")
        if version not in (2, 3):
            raise CheckpointError(f"{self.path}: {_version_trouble(version)}")
        tensor_count = cursor.count("tensors", smallest=24)
        entry_count = cursor.count("metadata entries", smallest=13)
        for _ in range(entry_count):
            key = cursor.text()
            if key in self.metadata:
                raise cursor.damaged(f"metadata {show(key)} is there twice")
            self.metadata[key] = cursor.value(cursor.number("I"))
        infos = [self._tensor_info(cursor) for _ in range(tensor_count)]
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**20:
            raise cursor.damaged(f"an alignment of {show(alignment)} makes no sense")
        start = -(-cursor.position // alignment) * alignment
        for name, shape, kind, offset in infos:
            size = _size(shape, kind)
            if size is None:
                raise cursor.damaged(f"rows of {show(name)} are no whole {kind.name} blocks")
            if start + offset + size > self._length:
                raise CheckpointError(
                    f"{self.path} is truncated: {show(name)} ends at byte {start + offset + size}, "
                    f"the file at {self._length}. Download it again"
                )
            if name in self.tensors:
                raise cursor.damaged(f"tensor {show(name)} is there twice")
            self.tensors[name] = StoredTensor(shape, kind, start + offset, size)

    def _tensor_info(self, cursor: _Cursor) -> tuple[str, Shape, GGMLType, int]:
        name = cursor.text()
        dimensions = cursor.number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise cursor.damaged(f"{show(name)} has {dimensions} dimensions")
        shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]
        number = cursor.number("I")
        if number not in TYPES:
            kind = UNREAD.get(number, f"type {number}, unknown")
            readable = ", ".join(kind.name for kind in TYPES.values())
            raise CheckpointError(
                f"{self.path}: {show(name)} is stored as {kind}: Puna reads {readable}. Take "
                "another quantisation of the model"
            )
        return name, shape, TYPES[number], cursor.number("Q")


def _size(shape: Shape, kind: GGMLType) -> int | None:
    """Bytes of a tensor, None when its rows are not whole blocks."""
    row = shape[-1] if shape else 1
    if row % kind.block:
        return None
    size = kind.size * (row // kind.block)
    for length in shape[:-1]:
        size *= length
    return size


def _version_trouble(version: int) -> str:
    if version == 1:
        return "GGUF version 1 is too old: convert the model again (versions 2 and 3 are read)"
    if int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3):
        return "a GGUF file for big-endian machines: convert the model for little-endian ones"
    return f"GGUF version {version} is unknown: Puna reads 2 and 3, or the file is damaged"


class _Cursor:
    """Reads forward, and never past the end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self._path = path
        self.position = 0

    def damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self._path} is damaged: {what}. Download it again")

    def skip(self, size: int) -> int:
        """Step over `size` bytes; where they began."""
        start = self.position
        if size > len(self._data) - start:
            raise CheckpointError(
                f"{self._path} is truncated or damaged: its header asks for {size} bytes at byte "
                f"{start} of {len(self._data)}. Download it again"
            )
        self.position = start + size
        return start

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self._data, self.skip(struct.calcsize(code)))
        return value

    def count(self, what: str, smallest: int) -> int:
        """How many follow, each of at least `smallest` bytes."""
        count = self.number("Q")
        if count * smallest > len(self._data) - self.position:
            raise self.damaged(f"it promises {count} {what} in {len(self._data)} bytes")
        return count

    def text(self) -> str:
        length = self.number("Q")
        start = self.skip(length)
        try:
            return self._data[start : start + length].decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged(f"the text at byte {start} is not UTF-8") from None

    def value(self, kind: int) -> object:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self._array(self.number("I"))
        raise self.damaged(f"metadata of type {kind} is unknown")

    def _array(self, kind: int) -> list[object]:
        if kind in _SCALARS:
            code = _SCALARS[kind]
            count = self.count("numbers", struct.calcsize(code))
            start = self.skip(count * struct.calcsize(code))
            return list(struct.unpack_from(f"<{count}{code}", self._data, start))
        if kind == _TEXT:
            return [self.text() for _ in range(self.count("texts", 8))]
        raise self.damaged(f"a list of type {kind} is unknown")
