"""Layers whose maps depend on the class, and surveys of them."""

import torch

from u1_plugin.lab.analysis.layer import LayerState
from u1_plugin.lab.analysis.survey import INPUT, JUDGED, Survey


def layer_of(place, seed, name='backbone.x', images=60, resamples=40, size=8):
    """A layer whose maps depend on the class, and lean on a seed."""
    generator = torch.Generator().manual_seed(seed)
    state = LayerState(name, 'relu', images, place, resamples)
    labels = torch.arange(images) % 5
    means = torch.rand(5, 8, size, size, generator=generator)
    maps = means[labels] + torch.rand(
        images, 8, size, size, generator=torch.Generator().manual_seed(7)
    )
    for part in torch.arange(images).split(16):
        state.update(maps[part], part)
    return state.finish(labels.numpy(), 5, tuple(JUDGED)), labels.numpy()


def survey_of(layer, labels) -> Survey:
    return Survey([layer._replace(name=INPUT), layer], labels, list('abcde'))
