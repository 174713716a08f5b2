"""How far the vectors of a class have gathered about their mean.

Three measures of the features that a classifier takes, by class: NC1 of
neural collapse, the class-distance normalised variance, and the class
separation R^2. All come from sums, so that batches and ranks add up.
"""

import math
from typing import Callable, Dict, NamedTuple, Optional

import torch
from torch import Tensor

from ..geometry import safe_norm
from ..options import checked
from .estimate import Several
from .sums import Accumulator, Size, check_labels, numbers, reals

#: Of directions ``(D, C)``, sums over the images of ``<h, row>^2``, ``(D,)``.
Spread = Callable[[Tensor], Tensor]


class Collapse(NamedTuple):
    """What training did to the features, class by class.

    With the classes' means ``mu_c``, their mean ``mu_G`` and the variances
    ``var_c = mean |h - mu_c|^2``. All three are fractions.

    Attributes:
        n (int): Images.
        nc1 (float): ``tr(S_W pinv(S_B)) / K`` with ``S_W``, the mean over the
            images of ``(h - mu_c)(h - mu_c)^T``, and ``S_B``, the mean over
            the classes of ``(mu_c - mu_G)(mu_c - mu_G)^T`` (Papyan, Han and
            Donoho, PNAS 2020). >= 0; 0 for classes that have collapsed. NaN
            where all classes have one mean.
        cdnv (float): Class-distance normalised variance: the mean over pairs
            of classes of ``(var_i + var_j) / (2 |mu_i - mu_j|^2)`` (Galanti,
            Gyorgy and Hutter, ICLR 2022). >= 0; infinite or NaN where two
            classes have one mean.
        separation (float): Class separation ``R^2 = 1 - d_within / d_total``
            of the cosine distances (Kornblith et al., NeurIPS 2021).
            ``d_within`` is the mean over the classes of the mean over all
            ordered pairs of a class's images, and ``d_total`` the mean over
            all ordered pairs of classes of the mean over their pairs of
            images; an image is a pair with itself, too. In ``[0, 1]``; 1 for
            classes that have collapsed, about ``(K - 1) / (n - 1)`` for
            labels at random. NaN where all vectors have one direction, or a
            class has none.
    """

    n: int
    nc1: float
    cdnv: float
    separation: float


class CollapseAccumulator(Accumulator):
    """Features by class, as :class:`Collapse` needs them.

    Args:
        num_classes (int): K >= 2.

    Raises:
        ValueError: If K is out of its range.
    """

    _measured = 'features of (C,) ='

    @checked('CollapseAccumulator')
    def __init__(self, num_classes: Several) -> None:
        super().__init__()
        self.num_classes = num_classes

    def _shapes(self, size: Size) -> Dict[str, Size]:
        classes = (self.num_classes,)
        return dict(
            count=classes,
            directed=classes,
            total=classes + size,
            squares=classes,
            units=classes + size,
            products=size * 2,
        )

    @checked('CollapseAccumulator')
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            features (Tensor): ``h``, ``(B, C)``, finite; B may be 0. A vector
                of norm 0 has no direction and no part in the separation.
            labels (Tensor): ``(B,)``, integers in ``[0, K)``.

        Raises:
            ValueError: If the shapes or types do not fit, C differs from the
                first batch's, a number is not finite, or a label is out of
                range.
        """
        features = self._reals('features', features, 'BC')
        labels = self._numbers('labels', labels, features)
        check_features(features, labels, self.num_classes)
        self._start(features.shape[1:], features.device)
        once = features.new_ones(len(features))
        class_sums = _class_sums(features, labels, self.num_classes, once)
        for name, value in class_sums.items():
            self._sums[name] += value
        self._sums['products'] += features.T @ features

    @checked('CollapseAccumulator')
    def summary(self, seen_only: bool = False) -> Collapse:
        """The measures of the images so far.

        Args:
            seen_only (bool): Of the classes that have images, where some have
                none: the measures then speak of these classes alone.

        Raises:
            ValueError: If a class has no image and ``seen_only`` is False, or
                fewer than two have any.
        """
        sums = {n: torch.from_numpy(s) for n, s in self.state().items()}
        products = sums.pop('products')
        kept = _kept(sums['count'], self.num_classes, seen_only)

        def spread(rows: Tensor) -> Tensor:
            return ((rows @ products) * rows).sum(1)

        # Classes without an image have no part in `products` either.
        return _measures({n: s[kept] for n, s in sums.items()}, spread)


@checked('collapse_of')
def collapse_of(
    features: Tensor,
    labels: Tensor,
    num_classes: Several,
    weights: Optional[Tensor] = None,
    seen_only: bool = False,
) -> Collapse:
    """:class:`Collapse` of features that are all at hand.

    Streams go through :class:`CollapseAccumulator`, which gives the same
    numbers but for rounding: its sums are about 0, so that an offset that all
    vectors share costs it digits, from about 1e6 times their scatter on.
    These are about the mean, and no matrix of C x C is made.

    Args:
        features (Tensor): ``h``, ``(N, C)``, finite.
        labels (Tensor): ``(N,)``, integers in ``[0, K)``.
        num_classes (int): K >= 2.
        weights (Tensor, optional): How often each image counts, ``(N,)``,
            >= 0, such as the counts of a bootstrap; None counts each once.
        seen_only (bool): See :meth:`CollapseAccumulator.summary`.

    Raises:
        ValueError: If shapes or types do not fit, a number is not finite, a
            label is out of range, or a class has no image and ``seen_only`` is
            False.
    """
    features = reals('features', features, 'BC')
    labels = numbers('labels', labels, features)
    check_features(features, labels, num_classes)
    once = features.new_ones(len(features))
    weight = once if weights is None else weights.to(once)
    if weight.shape != once.shape or not (weight >= 0).all():
        raise ValueError(
            f'weights of shape {tuple(weight.shape)} must be one number >= 0 '
            f'an image, ({len(once)},)'
        )
    sums = _class_sums(features, labels, num_classes, weight)
    # Variances do not depend on the origin; about the mean they round least.
    features = features - features.mean(0)
    centred = _class_sums(features, labels, num_classes, weight)
    sums.update(total=centred['total'], squares=centred['squares'])
    kept = _kept(sums['count'], num_classes, seen_only)

    def spread(rows: Tensor) -> Tensor:
        return weight @ (features @ rows.T).square()

    return _measures({n: s[kept] for n, s in sums.items()}, spread)


def check_features(features: Tensor, labels: Tensor, num_classes: int) -> None:
    """Raise ValueError unless all are finite and the labels in ``[0, K)``."""
    if not features.isfinite().all():
        raise ValueError(
            'features hold numbers that are not finite; check the '
            "network's weights and the images"
        )
    check_labels(labels, num_classes)


def _class_sums(
    features: Tensor, labels: Tensor, num_classes: int, weight: Tensor
) -> Dict[str, Tensor]:
    norm = safe_norm(features, 1)
    directed = norm > 0
    unit = features / torch.where(directed, norm, 1.0)[:, None]
    # A matrix product and no scatter: the same sum on every run.
    by_class = torch.nn.functional.one_hot(labels, num_classes)
    by_class = by_class.double().T * weight
    return dict(
        count=by_class.sum(1),
        directed=by_class @ directed.double(),
        total=by_class @ features,
        squares=by_class @ features.square().sum(1),
        units=by_class @ unit,
    )


def _kept(count: Tensor, num_classes: int, seen_only: bool) -> Tensor:
    """Which classes are measured, ``(K,)``."""
    has_images = count > 0
    missing = (~has_images).nonzero().flatten().tolist()
    if missing and not seen_only:
        raise ValueError(
            f'num_classes={num_classes}, but {len(missing)} of them '
            f'have no image, class {missing[0]} first; give images of '
            'each class'
        )
    if has_images.sum() < 2:
        raise ValueError(
            f'{int(has_images.sum())} class(es) with images, and classes are '
            'measured against each other; give images of at least 2'
        )
    return has_images


def _measures(sums: Dict[str, Tensor], spread: Spread) -> Collapse:
    """From sums by class, each of which has an image."""
    count = sums['count']
    means = sums['total'] / count[:, None]
    return Collapse(
        int(count.sum()),
        _nc1(means, count, spread),
        _cdnv(means, count, sums['squares']),
        _separation(sums['units'], sums['directed']),
    )


def _rounding(means: Tensor, count: Tensor) -> float:
    """Distances between means below this are rounding of their sums."""
    terms = max(means.size(1), float(count.max()))
    largest = float(means.norm(dim=1).max())
    return torch.finfo(means.dtype).eps * terms * largest


def _nc1(means: Tensor, count: Tensor, spread: Spread) -> float:
    # S_B is between.T @ between; to square it first would lose half the
    # digits.
    between = (means - means.mean(0)) / math.sqrt(len(means))
    _, scale, rows = torch.linalg.svd(between, full_matrices=False)
    kept = scale > _rounding(means, count)
    if not kept.any():
        return math.nan
    rows = rows[kept]
    # The diagonal of S_W in these directions.
    within = spread(rows) - (means @ rows.T).square().T @ count
    within = within.clamp_min(0) / count.sum()
    return float((within / scale[kept].square()).sum() / len(means))


def _cdnv(means: Tensor, count: Tensor, squares: Tensor) -> float:
    variance = squares / count - means.square().sum(1)
    variance = variance.clamp_min(0)
    distances = torch.pdist(means)  # by differences, for products would cancel
    distances = torch.where(distances > _rounding(means, count), distances, 0.0)
    first, second = torch.triu_indices(len(means), len(means), 1)
    both = variance[first] + variance[second]
    return float((both / (2 * distances.square())).mean())


def _separation(units: Tensor, directed: Tensor) -> float:
    if not directed.all():
        return math.nan
    # The mean cosine of all pairs is the square of the mean unit vector.
    means = units / directed[:, None]
    total = 1 - float(means.mean(0).square().sum())
    within = 1 - float(means.square().sum(1).mean())
    if total <= torch.finfo(means.dtype).eps * float(directed.sum()):
        return math.nan
    return 1 - max(within, 0.0) / total
