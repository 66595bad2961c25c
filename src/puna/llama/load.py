"""A checkpoint -> a `Llama` that computes: the one place where weights meet the model.

It knows no layouts. The model is built without memory and handed its tensors one by one, so at
most one tensor is ever there twice; on the CPU, in the stored dtype, none is (the file is mapped).
"""

from __future__ import annotations

import torch
from torch import Tensor

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
    with torch.device("meta"):
        model = Llama(checkpoint.config)
    state: dict[str, Tensor] = {
        name: tensor.to(device) for name, tensor in checkpoint.tensors(dtype)
    }
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()
