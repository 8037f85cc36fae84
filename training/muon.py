"""Muon: steps along the orthogonalised momentum of a matrix (K. Jordan, 2024; scaled as in Moonlight, 2025).

torch.optim.Muon steps one matrix at a time in bfloat16, which a CPU without bfloat16 instructions must emulate. Such
a CPU uses float32 here, and matrices of the same shape are stepped together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from training.tiny_model import IN_BFLOAT16

MOMENTUM = 0.95
ROUNDS = 5
# Coefficients of the quintic iteration that brings every singular value near 1 (from Jordan's post).
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonal(matrices: Tensor) -> Tensor:
    """Orthogonalise by Newton-Schulz: float32 [N, R, C], the singular vectors kept, singular values about 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16() if IN_BFLOAT16 else x
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Optimises weights of two and more dimensions (a convolution kernel counts as one row per output channel).

    Its steps have the root mean square of AdamW's, so both can share a learning rate.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    rows, columns = weight.flatten(1).shape
                    alike[rows, columns].append(weight)
            for shape, weights in alike.items():
                self._step(weights, shape, group["lr"], group["weight_decay"])

    def _step(self, weights: list[Tensor], shape: tuple[int, int], lr: float, weight_decay: float) -> None:
        ahead = []
        for weight in weights:
            momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            momentum.lerp_(weight.grad, 1 - MOMENTUM)
            ahead.append(weight.grad.lerp(momentum, MOMENTUM).flatten(1))
        steps = orthogonal(torch.stack(ahead)) * (0.2 * max(shape) ** 0.5)
        for weight, step in zip(weights, steps, strict=True):
            weight.mul_(1 - lr * weight_decay)
            weight.sub_(step.view_as(weight), alpha=lr)
