"""The control of the Fourier plane: channels in another order."""

from typing import NamedTuple

import numpy as np
import torch

from ...geometry import fourier_basis
from ...measure.information import class_dependence, mutual_information
from ...options import Count, Seed, checked
from .images import subset_index
from .layer import LayerFinding, angle_sums, project

_PERMUTATIONS = 999

#: Images whose channels are shuffled, at most.
_SHUFFLED = 2000


class Shuffle(NamedTuple):
    """The Fourier plane when the channels come in another order.

    Attributes:
        layer (str): Where.
        own (float): Information of the centred Fourier angle in the network's
            own order, nats.
        median (float): Of one random order for all images.
        low (float): 2.5 % of these orders lie below.
        high (float): 2.5 % lie above.
        rank (float): Share of the orders with at least ``own``; NaN where no
            image has an angle, as the others then.
        scrambled (float): With an order of its own for each image, nats: no
            feature is left.
        chance (float): The same with permuted labels, mean, nats.
    """

    layer: str
    own: float
    median: float
    low: float
    high: float
    rank: float
    scrambled: float
    chance: float


@checked()
def shuffles_of(
    layer: LayerFinding,
    labels: np.ndarray,
    classes: Count,
    orders: Count = 99,
    seed: Seed = 0,
) -> Shuffle:
    """Information of the centred Fourier angle with the channels shuffled.

    Args:
        layer (LayerFinding): Of a network's layer.
        labels (np.ndarray): ``(N,)``.
        classes (int): K.
        orders (int): Random orders, each the same for all images.
        seed (int): Of the orders.

    Raises:
        ValueError: If an option is out of its range.
    """
    rng = np.random.default_rng(seed)
    chosen = subset_index(len(labels), _SHUFFLED)
    vectors, labels = np.array(layer.vectors[chosen]), labels[chosen]
    basis = fourier_basis(layer.channels, torch.float64).numpy()

    def table(units, plane, center):
        moments = project(units, plane, center)
        return angle_sums(moments, labels, classes).state()['table']

    own = table(vectors, basis, layer.center)
    value = float(mutual_information(own))
    # Shuffling the plane's columns shuffles the channels back.
    planes = (basis[:, rng.permutation(layer.channels)] for _ in range(orders))
    others = np.array(
        [
            mutual_information(table(vectors, plane, layer.center))
            for plane in planes
        ]
    )
    scrambled = rng.permuted(vectors, axis=1)
    nothing = table(scrambled, basis, np.nanmean(scrambled, 0))
    return Shuffle(
        layer.name,
        value,
        float(np.median(others)),
        *(float(v) for v in np.percentile(others, (2.5, 97.5))),
        float(np.mean(np.where(np.isnan(value), value, others >= value))),
        float(mutual_information(nothing)),
        class_dependence(nothing, _PERMUTATIONS, resamples=2).chance,
    )
