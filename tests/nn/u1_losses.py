"""Modes of U1Loss, class points and moments for it."""

import pytest
import torch

MODES = ('cosine', 'von_mises', 'mse')
ANGLES = torch.tensor([0.3, 2.0, 4.0, 5.5], dtype=torch.float64)
POINTS = torch.stack([ANGLES.cos(), ANGLES.sin()], -1)
every_mode = pytest.mark.parametrize('mode', MODES)


def moments(n: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=generator, dtype=torch.float64) * 3
