"""Muon for matrices, AdamW for the rest: one object with a state dict."""

import torch
from torch import Tensor, nn


def orthogonalised(g: Tensor, steps: int = 5) -> Tensor:
    """The nearest half-orthogonal matrix, roughly: Newton-Schulz, Muon's coefficients."""
    x = g / (g.norm() + 1e-7)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + torch.addmm(a, a, a, beta=-4.7750, alpha=2.0315) @ x
    return x.T if tall else x


class Optimizer:
    def __init__(self, model: nn.Module, muon_lr: float = 0.01, adam_lr: float = 2e-3):
        self.matrices = [
            p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n
        ]
        rest = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.muon_lr, self.adam_lr = muon_lr, adam_lr
        self.adam = torch.optim.AdamW(
            rest, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0, foreach=True
        )

    @torch.no_grad()
    def step(self, scale: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = self.adam_lr * scale
        self.adam.step()
        self.adam.zero_grad()
        for p, m in zip(self.matrices, self.momentum, strict=True):
            m.lerp_(p.grad, 0.05)
            update = orthogonalised(p.grad.lerp(m, 0.95))
            p.add_(update, alpha=-self.muon_lr * scale * max(1, p.shape[0] / p.shape[1]) ** 0.5)
            p.grad = None

    def state_dict(self) -> dict:
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        for mine, stored in zip(self.momentum, state["momentum"], strict=True):
            mine.copy_(stored)
        self.adam.load_state_dict(state["adam"])
