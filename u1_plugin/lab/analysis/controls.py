"""Controls: what of a finding is the network's own, and what is not."""

import copy
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from ...geometry import fourier_basis
from ...measure.estimate import Estimate
from ...measure.information import class_dependence, mutual_information
from ...measure.profile import concentration, symmetry
from ...options import Count, checked
from .images import subset_index
from .layer import LayerFinding, angle_sums, project
from .moment_controls import CentringControl, RotationControl, ShiftControl
from .sources import Network, set_padding, untrained_twin
from .survey import JUDGED

_PERMUTATIONS = 999

#: Images whose channels are shuffled, at most.
_SHUFFLED = 2000
#: Random orders of the channels, each the same for all images.
_ORDERS = 99


class ShuffleControl(NamedTuple):
    """The Fourier plane when the channels come in another order."""

    layer: str  # where
    #: Information of the centred Fourier angle in the network's own order,
    #: nats.
    observed: float
    median: float  # of one random order for all images
    low: float  # 2.5 % of these orders lie below
    high: float  # 2.5 % lie above
    #: Share of the orders with at least ``observed``; NaN where no image has an
    #: angle, as the others then.
    rank: float
    #: With an order of its own for each image, nats: no feature is left.
    scrambled: float
    chance: float  # the same with permuted labels, mean, nats


class Variant(NamedTuple):
    """The claims' statistics of one layer under one variation."""

    variant: str  # what was changed
    layer: str  # where
    n: int  # images
    #: Share of energy within half of the half diagonal, less the uniform share.
    excess: Estimate
    symmetry: Estimate  # of the mean map under quarter turns
    #: Mutual information of angle and class, adjusted for chance, by plane;
    #: empty without labels, and of the image plane alone where the input image
    #: is grey.
    information: Dict[str, Estimate]


class Controls(NamedTuple):
    """All controls of an analysis; empty lists where one was not asked."""

    centring: List[CentringControl]
    shuffles: List[ShuffleControl]
    variants: List[Variant]
    turns: List[RotationControl]
    shifts: List[ShiftControl]


def variants_of(
    layers: Sequence[LayerFinding], name: str, labelled: bool
) -> List[Variant]:
    """The claims' statistics of every layer of one pass."""
    rows = []
    for layer in layers:
        information = {
            plane: class_dependence(
                layer.planes[plane].table, _PERMUTATIONS
            ).information_share
            for plane in JUDGED
            if labelled and plane in layer.planes  # grey input has no hue
        }
        rows.append(
            Variant(
                name,
                layer.name,
                layer.energy.n,
                concentration(layer.energy).excess,
                symmetry(layer.energy),
                information,
            )
        )
    return rows


def changed_networks(
    network: Network, seed: int, is_untrained: bool, padding: Optional[str]
) -> Dict[str, Network]:
    """The network with one thing changed at a time.

    An untrained network has no such twin, and one that pads otherwise already
    is tried with no other padding.
    """
    networks = {}
    if not is_untrained:
        twin = untrained_twin(network, seed)
        if padding:
            set_padding(twin.model, padding)
        networks['untrained twin'] = twin
    for mode in () if padding else ('reflect', 'circular'):
        changed = network._replace(model=copy.deepcopy(network.model))
        try:
            set_padding(changed.model, mode)
        except ValueError:
            continue  # nothing pads with zeros
        networks[f'padding {mode}'] = changed
    return networks


@checked()
def shuffles_of(
    layer: LayerFinding,
    labels: np.ndarray,
    classes: Count,
) -> ShuffleControl:
    """Information of the centred Fourier angle with the channels shuffled.

    Args:
        layer (LayerFinding): Of a network's layer.
        labels (np.ndarray): ``(N,)``.
        classes (int): K.

    Raises:
        ValueError: If ``classes`` is out of its range.
    """
    rng = np.random.default_rng(0)
    chosen = subset_index(len(labels), _SHUFFLED)
    vectors, labels = np.array(layer.vectors[chosen]), labels[chosen]
    basis = fourier_basis(layer.channels, torch.float64).numpy()

    def table(units, plane, center):
        moments = project(units, plane, center)
        return angle_sums(moments, labels, classes).state()['table']

    observed = table(vectors, basis, layer.center)
    value = float(mutual_information(observed))
    # Shuffling the plane's columns shuffles the channels back.
    planes = (basis[:, rng.permutation(layer.channels)] for _ in range(_ORDERS))
    shuffled = np.array(
        [
            mutual_information(table(vectors, plane, layer.center))
            for plane in planes
        ]
    )
    scrambled = rng.permuted(vectors, axis=1)
    nothing = table(scrambled, basis, np.nanmean(scrambled, 0))
    return ShuffleControl(
        layer.name,
        value,
        float(np.median(shuffled)),
        *(float(v) for v in np.percentile(shuffled, (2.5, 97.5))),
        float(np.mean(np.where(np.isnan(value), value, shuffled >= value))),
        float(mutual_information(nothing)),
        class_dependence(nothing, _PERMUTATIONS, resamples=2).chance,
    )
