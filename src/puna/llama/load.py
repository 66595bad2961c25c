"""A checkpoint -> a `Llama` that computes: the one place where weights meet the model.

It knows no layouts. The model is built without memory and handed its tensors one by one, so at
most one tensor is ever there twice; on the CPU, in the stored dtype, none is (the file is mapped).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from puna.kernels import Format, Packed, pack_parts
from puna.llama import linear
from puna.llama.model import Llama
from puna.llama.packing import Packing, format_of
from puna.llama.shapes import tensor_shapes
from puna.llama.weights import Checkpoint


def load_llama(
    checkpoint: Checkpoint,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    packing: Packing | None = None,
) -> Llama:
    """The model in `dtype` on `device`, ready for inference: no gradients, evaluation mode. With
    `packing` (CPU only) its projections are packed and all else is fp32; those that the checkpoint
    has in the very format are taken as they are, and mapped where the file holds whole blocks.

    Raises CheckpointError when the files have changed or are damaged since they were opened.
    """
    with torch.device("meta"), _NoInitialisation():
        model = Llama(checkpoint.config)
    state: dict[str, Tensor] = {}
    for name in tensor_shapes(checkpoint.config):
        form = packing and format_of(name, checkpoint.config, packing, checkpoint.stored_format)
        if form:
            module = model.get_submodule(name.removesuffix(".weight"))
            linear.pack(module, packed(checkpoint, name, form))
        else:
            state[name] = checkpoint.read(name, torch.float32 if packing else dtype).to(device)
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def packed(checkpoint: Checkpoint, name: str, form: Format) -> Packed:
    """One matrix of a checkpoint in `form`: as it is stored, or rounded from its exact values."""
    if checkpoint.stored_format(name) == form:
        return checkpoint.packed(name)
    rows, columns = tensor_shapes(checkpoint.config)[name]
    return pack_parts(checkpoint.parts(name), rows, columns, form)


class _NoInitialisation(TorchFunctionMode):
    """Leaves parameters as they are made. On the meta device random numbers have nothing to fill,
    and yet asking for them makes torch import its compiler, which takes seconds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
