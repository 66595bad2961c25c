"""Meta's own Llama 3 code, made to run on one CPU process.

`llama_models` imports fairscale (model parallelism) and torchvision (image resizing), neither of
which is installed here. This module puts small stand-ins in their place *before* the import: with a
world of one process, a column-parallel layer is a Linear and a reduction is the identity.
It knows nothing of Puna: it is the other side of every comparison.
"""

from __future__ import annotations

import enum
import sys
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn


def _parallel_linear(in_features: int, out_features: int, bias: bool = True, **_: Any) -> nn.Linear:
    return nn.Linear(in_features, out_features, bias=bias)


def _parallel_embedding(rows: int, width: int, **_: Any) -> nn.Embedding:
    return nn.Embedding(rows, width)


class _Interpolation(enum.Enum):
    BILINEAR = Image.Resampling.BILINEAR


class _ToTensor:
    def __call__(self, image: Image.Image) -> Tensor:
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return pixels.view(image.height, image.width, 3).permute(2, 0, 1).contiguous().float() / 255


class _Normalize:
    def __init__(self, mean: Any, std: Any, inplace: bool = False) -> None:
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)

    def __call__(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


def _resize(image: Image.Image, size: tuple[int, int], interpolation: Any) -> Image.Image:
    return image.resize((size[1], size[0]), interpolation.value)


def _module(name: str, **members: Any) -> None:
    module = ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def _install() -> None:
    _module("fairscale", __path__=[])
    _module("fairscale.nn", __path__=[])
    _module("fairscale.nn.model_parallel", __path__=[])
    _module(
        "fairscale.nn.model_parallel.initialize",
        get_model_parallel_world_size=lambda: 1,
        get_model_parallel_rank=lambda: 0,
        get_model_parallel_group=lambda: None,
    )
    _module(
        "fairscale.nn.model_parallel.layers",
        ColumnParallelLinear=_parallel_linear,
        RowParallelLinear=_parallel_linear,
        VocabParallelEmbedding=_parallel_embedding,
    )
    _module("torchvision", __path__=[])
    _module(
        "torchvision.transforms",
        __path__=[],
        ToTensor=_ToTensor,
        Normalize=_Normalize,
        InterpolationMode=_Interpolation,
    )
    _module("torchvision.transforms.functional", resize=_resize)


_STAND_INS = ("fairscale", "torchvision")
_before = {name for name in sys.modules if name.split(".")[0] in _STAND_INS}
_install()

from llama_models.llama3 import args as args  # noqa: E402
from llama_models.llama3 import model as text  # noqa: E402, F401
from llama_models.llama3.multimodal import image_transform as image_transform  # noqa: E402
from llama_models.llama3.multimodal import model as vision  # noqa: E402

# Other libraries ask whether torchvision is there: let them see the truth again.
for _name in [name for name in sys.modules if name.split(".")[0] in _STAND_INS]:
    if _name not in _before:
        del sys.modules[_name]


def _identity(tensor: Tensor) -> Tensor:
    return tensor


# One process: gathering and reducing change nothing.
vision.gather_from_tensor_model_parallel_region = _identity
vision.reduce_from_tensor_model_parallel_region = _identity
