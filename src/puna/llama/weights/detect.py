"""Which layout a path holds, told by the first bytes of its files.

It knows what files of each kind begin with and nothing of what follows. Raises CheckpointError for
whatever is no checkpoint, with a word on what it is and what to do.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

from puna.errors import CheckpointError
from puna.llama.prepared_header import MARK, is_prepared
from puna.llama.weights.fields import listed

Layout = Literal["safetensors", "torch", "gguf", "prepared"]

_KINDS: dict[Layout, str] = {
    "safetensors": "safetensors (Hugging Face)",
    "torch": ".pth (Meta)",
    "gguf": "GGUF",
    "prepared": "prepared by puna quantize",
}
_WHOLE: tuple[Layout, ...] = ("gguf", "prepared")
"""Layouts of which one file is one model."""
_WORKS = (
    "Puna reads Hugging Face safetensors with config.json, Meta's consolidated.*.pth with "
    "params.json, GGUF, and what `puna quantize` writes"
)
_STRANGERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (b"tjgg", "an old llama.cpp file (ggjt): convert the model to GGUF again"),
    (b"fmgg", "an old llama.cpp file (ggmf): convert the model to GGUF again"),
    (b"lmgg", "an old llama.cpp file (ggml): convert the model to GGUF again"),
    (b"\x80", "a bare pickle, which could run code: save it again with a recent torch"),
    (b"\x89HDF", "an HDF5 file"),
    (b"<", "a web page, not a model: the download failed"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
)


def find_layout(path: Path) -> tuple[Layout, list[Path]]:
    """The layout, and the files that hold weights in it, by name in order."""
    try:
        if path.is_dir():
            return _of_directory(path)
        if not path.exists():
            raise CheckpointError(f"{path} does not exist: expected a checkpoint folder or file")
        return _of_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None


def _of_file(path: Path) -> tuple[Layout, list[Path]]:
    layout = sniff(path)
    if layout is None:
        raise CheckpointError(f"{path} is {describe(path)}. {_WORKS}")
    # One shard stands for its whole checkpoint.
    files = [path] if layout in _WHOLE else _weight_files(path.parent)[layout]
    return layout, files


def _of_directory(path: Path) -> tuple[Layout, list[Path]]:
    found = _weight_files(path)
    if "torch" in found and not (path / "params.json").is_file():
        if "safetensors" in found:
            del found["torch"]  # pytorch_model.bin beside safetensors: the same weights twice
        else:
            name = found["torch"][0].name
            raise CheckpointError(
                f"{path}: {name} has no params.json beside it, so it is not Meta's layout; "
                f"pytorch_model.bin is not read. {_WORKS}"
            )
    if len(found) > 1:
        kinds = " and ".join(f"{_KINDS[kind]}: {files[0].name}" for kind, files in found.items())
        raise CheckpointError(
            f"{path} holds several checkpoints ({kinds}): name the file you mean, or move the "
            "others away"
        )
    if not found:
        strange = [file for file in sorted(path.iterdir()) if file.suffix in _SUFFIXES]
        if strange:
            raise CheckpointError(f"{strange[0]} is {describe(strange[0])}. {_WORKS}")
        raise CheckpointError(f"{path} holds no weights. {_WORKS}")
    layout, files = found.popitem()
    if layout in _WHOLE and len(files) > 1:
        names = listed(file.name for file in files)
        kind = "GGUF" if layout == "gguf" else "prepared"
        raise CheckpointError(f"{path} holds several {kind} files ({names}): name the one you mean")
    return layout, files


_SUFFIXES = {".puna", ".safetensors", ".pth", ".pt", ".bin", ".gguf", ".ggml"}


def _weight_files(directory: Path) -> dict[Layout, list[Path]]:
    found: dict[Layout, list[Path]] = {}
    for file in sorted(directory.iterdir()):
        if file.is_file() and (layout := sniff(file)):
            found.setdefault(layout, []).append(file)
    return found


def sniff(path: Path) -> Layout | None:
    """The layout that a file belongs to by its first bytes, or None."""
    with path.open("rb") as file:
        head = file.read(8 + len(MARK))
    if head[:4] == b"GGUF":
        return "gguf"
    if head[:4] == b"PK\x03\x04":
        return "torch"
    if is_prepared(head):
        return "prepared"
    if head[8:9] == b"{":
        (length,) = struct.unpack("<Q", head[:8])
        if 2 <= length <= 100_000_000:  # the format's own limit
            return "safetensors"
    return None


def describe(path: Path) -> str:
    """In words, what a file is that is no checkpoint."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return "empty: the download failed"
    for magic, words in _STRANGERS:
        if head.startswith(magic):
            return words
    if head[:1] in b"{[":
        return "JSON, not weights: name the folder"
    return "no model file that Puna knows, or a damaged one"
