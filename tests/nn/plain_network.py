"""A plain PyTorch network beside which tests run a branch."""

from typing import Optional

import torch
from helpers import images
from torch import nn

K = 10


class Network(nn.Module):
    """Two convolutions, and room for a module that behaves as tests need."""

    def __init__(self, extra: Optional[nn.Module] = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.extra = extra or nn.Identity()
        self.last = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.fc = nn.Linear(12, K)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        self.extra(x)
        return self.fc(self.last(x).mean((2, 3)))


def network(extra: Optional[nn.Module] = None) -> Network:
    torch.manual_seed(0)
    return Network(extra).train()


def labels(n: int = 4) -> torch.Tensor:
    return torch.arange(n) % K


def step(model, branch, target=None, x=None, **options) -> dict:
    with branch.reading():
        model(images() if x is None else x)
    return branch(labels() if target is None else target, **options)
