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

from puna.llama.model import Llama
from puna.llama.weights import Checkpoint


def load_llama(
    checkpoint: Checkpoint,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Llama:
    """The model in `dtype` on `device`, ready for inference: no gradients, evaluation mode.

    Raises CheckpointError when the files have changed or are damaged since they were opened.
    """
    with torch.device("meta"), _NoInitialisation():
        model = Llama(checkpoint.config)
    state: dict[str, Tensor] = {
        name: tensor.to(device) for name, tensor in checkpoint.tensors(dtype)
    }
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


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
