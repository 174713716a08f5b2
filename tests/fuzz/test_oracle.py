"""The judge of all cases must tell a fault."""

import pytest
import torch
from oracle import REFUSED, attempt

from u1_plugin.geometry import fourier_basis
from u1_plugin.options import checked


def test_own_errors_are_refusals():
    found = attempt(lambda: fourier_basis(2), dict(channels=2))
    assert found is REFUSED
    assert attempt(lambda: 3) == 3
    assert attempt(lambda: 3, dict(channels=2), either=True) == 3


@pytest.mark.parametrize(
    ('call', 'wrong'),
    [
        (lambda: 3, dict(channels=2)),  # takes what is wrong
        (lambda: fourier_basis(2), {}),  # refuses what is right
        (lambda: fourier_basis(2), dict(winding=1)),  # names another
        (lambda: fourier_basis(2), dict(channels=5)),  # hides the value
    ],
)
def test_faults(call, wrong):
    with pytest.raises(AssertionError):
        attempt(call, wrong)


@pytest.mark.parametrize(
    'call',
    [
        checked()(lambda: torch.ones(2).reshape(3)),  # torch's own
        checked()(lambda: int('a=1')),  # a ValueError, but not the plugin's
    ],
)
def test_errors_of_others_are_faults(call):
    with pytest.raises((RuntimeError, ValueError)):
        attempt(call, dict(a=1), either=True)
