"""The first bytes of a prepared file: what the model is, and where its tensors lie.

A prepared file is a safetensors file whose header opens with `MARK` and a version. Its metadata
hold the config and the generation defaults as JSON; its tensors are named as `stored_name` says:
packed matrices first, in the order of their use, then fp32, then the tokenizer. The data begin at
a page's border and packed blocks are multiples of 64 bytes, so kernels use them where the file is
mapped. It knows no torch, so that a list of models costs no second.
"""

from __future__ import annotations

import json
import math
import struct
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from puna.errors import CheckpointError
from puna.llama.config import LlamaConfig
from puna.llama.shapes import Shape

T = TypeVar("T")

VERSION = "1"
MARK = b'{"__metadata__":{"puna":"'
SUFFIX = ".puna"
TOKENIZER = "tokenizer"
PAGE = 4096
_LARGEST_HEADER = 100_000_000  # safetensors' own limit
_LARGEST_NUMBER = 2**24


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of the file: `dtype` is safetensors' word, U8 or F32."""

    name: str
    dtype: str
    shape: Shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * (4 if self.dtype == "F32" else 1)


@dataclass(frozen=True, slots=True)
class Header:
    """`tensors`: the name in the file -> dtype and shape."""

    config: LlamaConfig
    generation: Mapping[str, object]
    tensors: Mapping[str, Entry]


def stored_name(name: str, form: str | None) -> str:
    """`model.layers.0.mlp.up_proj.weight`, packed as int4 -> `model.layers.0.mlp.up_proj.int4`."""
    return name.removesuffix("weight") + form if form else name


def encode_header(config: LlamaConfig, generation: object, entries: list[Entry]) -> bytes:
    """The file up to its first tensor. `generation` is a dataclass of plain values."""
    metadata = {
        "puna": VERSION,
        "config": json.dumps(asdict(config)),
        "generation": json.dumps(asdict(cast(Any, generation))),
    }
    header: dict[str, object] = {"__metadata__": metadata}
    at = 0
    for entry in entries:
        place = [at, at + entry.nbytes]
        header[entry.name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": place}
        at += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    padded = text.ljust(-(-(len(text) + 8) // PAGE) * PAGE - 8)
    return struct.pack("<Q", len(padded)) + padded


def is_prepared(head: bytes) -> bool:
    """Whether a file that begins so is a prepared one, of whatever version."""
    return head[8 : 8 + len(MARK)] == MARK


def read_header(path: Path) -> Header:
    """Raises CheckpointError when it is damaged, or of another version."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            text = file.read(min(length, _LARGEST_HEADER))
        if len(text) < length:
            raise ValueError("the file ends before its header does")
        whole: dict[str, Any] = json.loads(text)
        metadata: dict[str, str] = whole.pop("__metadata__")
        if metadata["puna"] == VERSION:
            config, generation = (
                _object(json.loads(metadata[part])) for part in ("config", "generation")
            )
            tensors = {
                str(name): Entry(name, str(each["dtype"]), tuple(each["shape"]))
                for name, each in whole.items()
            }
            return Header(decode(LlamaConfig, config, f"{path}: config"), generation, tensors)
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as why:
        kind = "" if isinstance(why, ValueError) else f"{type(why).__name__}: "
        reason = " ".join(f"{kind}{why}".split())[:200]
        raise CheckpointError(
            f"{path} is truncated or corrupt ({reason}): run puna quantize again"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    raise CheckpointError(
        f"{path} was prepared by another Puna (version {str(metadata['puna'])[:20]!r} of the file, "
        f"this one reads {VERSION}): run puna quantize again"
    )


def decode(kind: type[T], values: Mapping[str, object], where: str) -> T:
    """A dataclass out of JSON, every field of the type that it says; `where` opens a message."""
    hints = get_type_hints(kind)
    found: dict[str, object] = {}
    for field in fields(cast(Any, kind)):
        if field.name in values:
            name = f"{where}: {field.name}"
            found[field.name] = _value(hints[field.name], values[field.name], name)
        elif field.default is MISSING:
            raise CheckpointError(f"{where} lacks {field.name}: run puna quantize again")
    if strange := values.keys() - found.keys():
        raise CheckpointError(
            f"{where} has {min(strange)[:60]!r}, which means nothing to this Puna: run puna "
            "quantize again"
        )
    return kind(**found)


def _value(hint: Any, value: object, where: str) -> object:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _value(inner[0], value, where)
    if is_dataclass(hint) and isinstance(value, dict):
        return decode(cast(type[object], hint), _object(cast(object, value)), where)
    if origin is tuple and isinstance(value, list):
        items = cast(list[object], value)
        each = [inner[0]] * len(items) if inner[-1] is ... else inner
        if len(each) == len(items):
            return tuple(_value(one, item, where) for one, item in zip(each, items, strict=True))
    elif hint is float and type(value) in (int, float) and 0 <= cast(float, value) < 1e30:
        return float(cast(float, value))
    elif type(value) is hint and not (hint is int and not 0 <= cast(int, value) <= _LARGEST_NUMBER):
        return value
    raise CheckpointError(
        f"{where} is {str(cast(object, value))[:60]!r}, which makes no sense: run puna quantize "
        "again"
    )


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("expected an object of names and values")
    return cast(dict[str, object], value)
