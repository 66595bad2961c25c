"""Writing a prepared file: any checkpoint, packed once, so that no start packs it again.

One tensor is in memory at a time. The file appears under its name only when it is whole; what goes
wrong before leaves nothing behind. How it looks is `prepared_header.py`'s, how it is read
`weights/prepared.py`'s.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from puna.errors import StartupError
from puna.kernels import Format
from puna.llama.load import packed
from puna.llama.packing import Packing, block_shape, format_of
from puna.llama.prepared_header import TOKENIZER, Entry, encode_header, stored_name
from puna.llama.shapes import tensor_shapes
from puna.llama.weights import Checkpoint

_WRITTEN_AT_ONCE = 1 << 24


def prepare(
    checkpoint: Checkpoint,
    path: Path,
    packing: Packing,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Writes `checkpoint`, packed as `packing`, to `path`; the bytes of the file.

    `progress` is told the bytes done and in all. Raises StartupError when `path` is there already
    and not to be overwritten (`force`), or the disk too full; CheckpointError as reading does.
    """
    _check_target(path, force)
    tokenizer = checkpoint.tokenizer().dump()
    formats: dict[str, Format | None] = {
        name: format_of(name, checkpoint.config, packing, checkpoint.stored_format)
        for name in tensor_shapes(checkpoint.config)
    }
    names = sorted(formats, key=lambda name: formats[name] is None)  # stable: packed ones first
    entries = list(_entries(checkpoint, {name: formats[name] for name in names}, len(tokenizer)))
    head = encode_header(checkpoint.config, checkpoint.generation, entries)
    total = len(head) + sum(entry.nbytes for entry in entries)
    free = shutil.disk_usage(path.parent).free
    if free < total:
        raise StartupError(
            f"{path} would take {total / 1e9:.2f} GB, and only {free / 1e9:.2f} GB are free there: "
            "make room, or name a file on another disk"
        )
    with _appearing(path) as file:
        file.write(head)
        for name in names:
            if form := formats[name]:
                data = packed(checkpoint, name, form).data
            else:
                data = checkpoint.read(name, torch.float32)
            for part in _parts(data):
                file.write(part)
                progress(file.tell(), total)
        file.write(tokenizer)
        progress(file.tell(), total)
    return total


def _entries(
    checkpoint: Checkpoint, formats: dict[str, Format | None], tokenizer_bytes: int
) -> Iterator[Entry]:
    shapes = tensor_shapes(checkpoint.config)
    for name, form in formats.items():
        if form:
            yield Entry(stored_name(name, form), "U8", block_shape(shapes[name], form))
        else:
            yield Entry(name, "F32", shapes[name])
    yield Entry(TOKENIZER, "U8", (tokenizer_bytes,))


def _check_target(path: Path, force: bool) -> None:
    if path.is_dir():
        raise StartupError(f"{path} is a folder: name a file in it")
    if path.exists() and not force:
        raise StartupError(f"{path} is there already: name another file, or say --force")
    if not path.parent.is_dir():
        raise StartupError(f"{path.parent}: there is no such folder")


@contextmanager
def _appearing(path: Path) -> Generator[BinaryIO]:
    """A file that is there under its name when the block ends well, else not at all."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with hidden.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def _parts(data: Tensor) -> Iterator[ctypes.Array[ctypes.c_char]]:
    """A tensor's bytes, a few at a time and without a copy."""
    data = data.contiguous()
    for first in range(0, data.nbytes, _WRITTEN_AT_ONCE):
        size = min(_WRITTEN_AT_ONCE, data.nbytes - first)
        yield (ctypes.c_char * size).from_address(data.data_ptr() + first)
