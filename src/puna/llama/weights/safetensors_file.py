"""Opening one safetensors file: what it holds, and in which words it is refused.

It knows no names and no models. Tensors are memory-mapped when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from puna.errors import CheckpointError
from puna.llama.shapes import Shape
from puna.llama.weights.fields import one_line


def open_safetensors(path: Path, again: str) -> tuple[Any, Mapping[str, tuple[Shape, str]]]:
    """The open file, and of each tensor shape and dtype. Raises CheckpointError; `again`: what to
    do about a damaged one."""
    try:
        file: Any = safe_open(path, framework="pt")
        slices = {str(name): file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return file, {n: (tuple(s.get_shape()), s.get_dtype()) for n, s in slices.items()}
    except RuntimeError as error:  # torch's, for a single file far beyond the memory
        raise CheckpointError(
            f"{path} cannot be mapped into memory ({one_line(error)}): too large for this "
            "machine; a checkpoint in shards may do"
        ) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is truncated or corrupt ({one_line(error)}): {again}"
        ) from None
