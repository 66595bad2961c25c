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

from puna.kernels import Format, pack
from puna.llama import linear
from puna.llama.model import Llama
from puna.llama.packing import format_of
from puna.llama.shapes import tensor_shapes
from puna.llama.weights import Checkpoint


def load_llama(
    checkpoint: Checkpoint,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    packing: Format | None = None,
) -> Llama:
    """The model in `dtype` on `device`, ready for inference: no gradients, evaluation mode. With
    `packing` (CPU only) its projections are packed and all else is fp32.

    Raises CheckpointError when the files have changed or are damaged since they were opened.
    """
    with torch.device("meta"), _NoInitialisation():
        model = Llama(checkpoint.config)
    state: dict[str, Tensor] = {}
    for name in tensor_shapes(checkpoint.config):
        form = format_of(name, checkpoint.config, packing) if packing else None
        if form:
            module = model.get_submodule(name.removesuffix(".weight"))
            linear.pack(module, pack(checkpoint.read(name, _unrounded(checkpoint)), form))
        else:
            state[name] = checkpoint.read(name, torch.float32 if packing else dtype).to(device)
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def _unrounded(checkpoint: Checkpoint) -> torch.dtype:
    """Numbers times fp16 scales, as GGUF has them, are exact in fp32 alone: Q8_0 and Q4_0 are then
    packed without loss, where each block uses the whole range of its integers."""
    stored = checkpoint.stored_dtype
    return torch.float32 if stored == torch.float16 else stored


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
