"""Controls: what of a finding is the network's own, and what is not."""

import copy
import math
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...geometry import fourier_basis
from ...measure.circular_tests import known_pairs
from ...measure.estimate import Estimate, t_estimate
from ...measure.information import class_dependence, mutual_information
from ...measure.profile import concentration, symmetry
from ...options import Count, Seed, checked
from .images import subset_index
from .layer import INPUT, LayerFinding, angle_sums, project
from .sources import Network, set_padding, untrained_twin
from .survey import JUDGED, Survey

_PERMUTATIONS = 999
_RESAMPLES = 200

#: Images whose channels are shuffled, at most.
_SHUFFLED = 2000

#: Shift of the images in a control, in parts of their width.
SHIFT = 8


class Variant(NamedTuple):
    """The claims' statistics of one layer under one variation.

    Attributes:
        variant (str): What was changed.
        layer (str): Where.
        n (int): Images.
        excess (Estimate): Share of energy within half of the half diagonal,
            less the uniform share.
        symmetry (Estimate): Of the mean map under quarter turns.
        information (Dict[str, Estimate]): Mutual information of angle and
            class, adjusted for chance, by plane; empty without labels, and
            of the image plane alone where the input image is grey.
    """

    variant: str
    layer: str
    n: int
    excess: Estimate
    symmetry: Estimate
    information: Dict[str, Estimate]


class Turn(NamedTuple):
    """Whether a layer's image angle turns with the image.

    Attributes:
        layer (str): Where.
        degrees (int): By how much the images were turned; a positive number
            is counter-clockwise.
        mean (float): Circular mean of the angle's change, degrees in
            ``(-180, 180]``.
        half_width (float): Of its 95 % interval, degrees; NaN if unbounded.
        length (float): Resultant length of the changes: 1 if all images'
            angles turn alike.
        correlation (Estimate): :func:`toroidal_correlation`, of the angles
            before and after.
        n (int): Images.
    """

    layer: str
    degrees: int
    mean: float
    half_width: float
    length: float
    correlation: Estimate
    n: int


class Shift(NamedTuple):
    """Whether a layer's image moment follows a shift of the image.

    Attributes:
        layer (str): Where.
        along (Estimate): Mean change of ``Re z_xy`` for a shift to the right;
            its p-value is one-sided, of no change that way.
        across (Estimate): The same of ``Im z_xy``, where none is expected.
        n (int): Images.
    """

    layer: str
    along: Estimate
    across: Estimate
    n: int


class Centring(NamedTuple):
    """Where a layer's energy lies on average, and what of it is the data's.

    Attributes:
        layer (str): Where.
        x (Estimate): Mean of ``Re z_xy``; p-value two-sided about 0.
        y (Estimate): Mean of ``Im z_xy``, up.
        follows (Estimate): :func:`toroidal_correlation`, over the images,
            of the layer's image angle with that of the input image's energy.
    """

    layer: str
    x: Estimate
    y: Estimate
    follows: Estimate


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


def variants_of(
    layers: Sequence[LayerFinding], name: str, labelled: bool
) -> List[Variant]:
    """The claims' statistics of every layer of one pass."""
    rows = []
    for layer in layers:
        information = {}
        if labelled:
            for plane in JUDGED:
                if plane not in layer.planes:
                    continue  # grey input has no hue
                table = layer.planes[plane].table
                found = class_dependence(table, _PERMUTATIONS)
                information[plane] = found.information_share
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

    Args:
        network (Network): As analysed.
        seed (int): Of the untrained twin.
        is_untrained (bool): The network is one itself.
        padding (str, optional): It pads so already; no other is tried then.
    """
    found = {}
    if not is_untrained:
        twin = untrained_twin(network, seed)
        if padding:
            set_padding(twin.model, padding)
        found['untrained twin'] = twin
    for mode in () if padding else ('reflect', 'circular'):
        changed = network._replace(model=copy.deepcopy(network.model))
        try:
            set_padding(changed.model, mode)
        except ValueError:
            continue  # nothing pads with zeros
        found[f'padding {mode}'] = changed
    return found


def quarter_turn(times: int) -> Callable[[Tensor], Tensor]:
    """Turn images ``(B, C, H, W)`` counter-clockwise."""
    return lambda images: images.rot90(times, (-2, -1))


def shift_right(images: Tensor) -> Tensor:
    """By 1 / :data:`SHIFT` of the width; the left edge is continued."""
    width = images.size(-1)
    by = max(width // SHIFT, 1)
    shifted = F.pad(images, (by, 0, 0, 0), mode='replicate')
    return shifted[..., :width].contiguous()


def _angles(moments: np.ndarray) -> np.ndarray:
    """Radians; NaN where a moment is 0 or not known."""
    theta = np.arctan2(moments[:, 1], moments[:, 0])
    return np.where(np.hypot(*moments.T) > 0, theta, np.nan)


@checked()
def toroidal_correlation(
    first: np.ndarray, second: np.ndarray, seed: Seed = 0
) -> Estimate:
    """Fisher and Lee's correlation of paired angles.

    It needs no mean direction, which angles all around the circle do not
    have. With unit vectors x and y it is ``det(mean x y^T) / sqrt(det(mean x
    x^T) det(mean y y^T))``: 1 if one turns with the other, -1 if against.

    Args:
        first (np.ndarray): ``(n,)``, radians.
        second (np.ndarray): ``(n,)``, radians. Pairs with a NaN are left out.
        seed (int): Of permutations and bootstrap.

    Returns:
        Estimate: With a 95 % bootstrap interval and a two-sided permutation
        p-value; NaN with fewer than 4 pairs.

    Raises:
        ValueError: If ``seed`` is out of its range or they are no pairs.
    """
    first, second = known_pairs(first, second)
    count = len(first)
    if count < 4:
        return Estimate(*[math.nan] * 4)
    x, y = (np.stack([np.cos(t), np.sin(t)], 1) for t in (first, second))

    def correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        def det(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.linalg.det(np.swapaxes(a, -1, -2) @ b / count)

        scale = np.sqrt((det(x, x) * det(y, y)).clip(0))
        # All angles alike have no spread to share.
        return det(x, y) / np.where(scale > 1e-12, scale, np.inf)

    rng = np.random.default_rng(seed)
    value = float(correlation(x, y))
    drawn = rng.integers(0, count, (_RESAMPLES, count))
    low, high = np.percentile(correlation(x[drawn], y[drawn]), (2.5, 97.5))
    orders = rng.permuted(np.tile(np.arange(count), (_PERMUTATIONS, 1)), axis=1)
    extreme = abs(correlation(x, y[orders])) >= abs(value) - 1e-12
    pvalue = (1 + extreme.sum()) / (1 + _PERMUTATIONS)
    return Estimate(value, float(low), float(high), float(pvalue))


def turns_of(
    before: Survey, after: Survey, degrees: int, index: np.ndarray
) -> List[Turn]:
    """Compare the image angles of turned images with those of the images.

    Args:
        before (Survey): Of all images.
        after (Survey): Of the turned ones among them.
        degrees (int): Of the turn.
        index (np.ndarray): Which these are, ``(n,)``.
    """
    rows = []
    for first, second in zip(before.layers, after.layers):
        old = _angles(first.moments['image'][index])
        new = _angles(second.moments['image'])
        old, new = known_pairs(old, new)
        change = np.exp(1j * (new - old))
        found = angle_sums(
            np.stack([change.real, change.imag], 1),
            np.zeros(len(change), np.int64),
            1,
        ).summary()
        correlation = toroidal_correlation(old, new)
        rows.append(
            Turn(
                first.name,
                degrees,
                math.degrees(found.mean[0]),
                math.degrees(found.half_width[0]),
                float(found.length[0]),
                correlation,
                found.n,
            )
        )
    return rows


def _mean(values: np.ndarray) -> Estimate:
    values = values[np.isfinite(values)]
    error = values.std(ddof=1) / math.sqrt(len(values))
    return t_estimate(float(values.mean()), float(error), len(values) - 1)


def shifts_of(before: Survey, after: Survey, index: np.ndarray) -> List[Shift]:
    """Compare the image moments of shifted images; see :func:`turns_of`."""
    rows = []
    for first, second in zip(before.layers, after.layers):
        change = second.moments['image'] - first.moments['image'][index]
        rows.append(
            Shift(
                first.name,
                _mean(change[:, 0]),
                _mean(change[:, 1]),
                int(np.isfinite(change).all(1).sum()),
            )
        )
    return rows


@checked()
def centring_of(found: Survey, images: Count = 1000) -> List[Centring]:
    """Where the energy lies on average, against the images' own.

    Args:
        found (Survey): Its first layer is the input image.
        images (int): The correlation is taken over so many at most.
    """
    rows = []
    chosen = subset_index(len(found.labels), images)
    own = _angles(found.layers[0].moments['image'][chosen])
    for layer in found.layers:
        moments = layer.moments['image']
        theta = _angles(moments[chosen])
        rows.append(
            Centring(
                layer.name,
                _two_sided(_mean(moments[:, 0])),
                _two_sided(_mean(moments[:, 1])),
                toroidal_correlation(own, theta),
            )
        )
    return rows


def _two_sided(estimate: Estimate) -> Estimate:
    one = estimate.pvalue
    return estimate._replace(pvalue=2 * min(one, 1 - one))


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


def network_layers(found: Survey) -> List[LayerFinding]:
    """Without the input image."""
    return [layer for layer in found.layers if layer.name != INPUT]
