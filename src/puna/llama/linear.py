"""The modules whose weight may be packed: torch's own, with our kernels.

`pack` exchanges the parameter for a `Packed` of the same matrix; what goes in and comes out is then
fp32, and there is nothing left to train.
"""

from __future__ import annotations

from torch import Tensor, nn

from puna import kernels
from puna.kernels import Packed


class Linear(nn.Linear):
    """Called, it takes an image's rows, which come in hundreds: none is exact."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return kernels.linear(input, self.weight, self.bias, exact=0)

    def add(self, x: Tensor, exact: int, residual: Tensor, by: Tensor) -> Tensor:
        """`residual + by * self(x)`, for a projection without bias."""
        return kernels.linear_add(x, self.weight, residual, by, exact)


class Embedding(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return kernels.embedding(input, self.weight)


def pack(module: nn.Module, weight: Packed) -> None:
    """Gives `module`, a `Linear` or an `Embedding`, a packed weight."""
    del module.weight
    module.weight = weight  # type: ignore[assignment] - `kernels` takes either
