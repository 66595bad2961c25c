"""The modules whose weight may be packed: torch's own, with our kernels.

`pack` exchanges the parameter for a `Packed` of the same matrix; what goes in and comes out is then
fp32, and there is nothing left to train.
"""

from __future__ import annotations

from torch import Tensor, nn

from puna import kernels
from puna.kernels import Packed


class Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return kernels.linear(input, self.weight, self.bias)

    def add(self, x: Tensor, residual: Tensor, by: Tensor | None = None) -> Tensor:
        """`residual + by * self(x)`, for a projection without bias."""
        return kernels.linear_add(x, self.weight, residual, by)


class Embedding(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return kernels.embedding(input, self.weight)


def pack(module: nn.Module, weight: Packed) -> None:
    """Gives `module`, a `Linear` or an `Embedding`, a packed weight."""
    del module.weight
    module.weight = weight  # type: ignore[assignment] - `kernels` takes either
