"""Streaming sums of everything that the analysis reads from a network.

Each accumulator holds float64 sums whose size does not depend on the number
of images. Those of the ranks add up to those of the whole: ``reduce``.
"""

from functools import lru_cache
from typing import Dict, Optional, cast

import torch
from torch import Tensor

from ..geometry import angle
from ..options import Count, checked
from .circular_tests import ClassAngleSummary, summarize_class_angles
from .estimate import Several
from .profile import EnergySummary, Rings, make_rings, rotational_symmetry
from .sums import Accumulator, Size, check_labels


def _rings(size: Size, bins: int) -> Rings:
    height, width = size
    return make_rings(height, width, bins)


@lru_cache(maxsize=8)
def _ring_means(size: Size, bins: int, device: torch.device) -> Tensor:
    return torch.from_numpy(_rings(size, bins).means()).to(device)


class EnergyAccumulator(Accumulator):
    """Mean energy map, radial profile and symmetry of one layer.

    Args:
        radial_bins (int): Rings between the axis and the map's corner.
        groups (int): Groups of images whose mean maps are kept apart, for the
            error of what is read from the mean map.
    """

    _measured = 'a map of (H, W) ='

    @checked('EnergyAccumulator')
    def __init__(self, radial_bins: Several = 16, groups: Several = 20) -> None:
        super().__init__()
        self.radial_bins, self.groups = radial_bins, groups
        self._seen = 0

    def _shapes(self, size: Size) -> Dict[str, Size]:
        rings = len(_rings(size, self.radial_bins).pixels)
        return dict(
            skipped=(),
            energy=(),
            maps=(self.groups, *size),
            images=(self.groups,),
            products=(rings, rings),
            symmetry=(2,),
        )

    @checked('EnergyAccumulator')
    def update(self, energy: Tensor, index: Optional[Tensor] = None) -> None:
        """Add a batch.

        Args:
            energy (Tensor): ``E``, ``(B, H, W)``, >= 0; B may be 0.
            index (Tensor, optional): Numbers of the images in the data set,
                ``(B,)``, integers. They choose the groups, so that these do not
                depend on the number of ranks. None counts the images here.

        Raises:
            ValueError: If H or W differ from the first batch's, there is not
                one number an image, an energy is negative, or a tensor is of
                a wrong type.
        """
        energy = self._reals('energy', energy, 'BHW')
        if (energy < 0).any():
            raise ValueError(
                f'EnergyAccumulator.energy has {float(energy.min()):g}, and '
                'squares are >= 0; give those of u1_plugin.geometry.energy'
            )
        if index is None:
            index = torch.arange(self._seen, self._seen + len(energy))
        index = self._numbers('index', index, energy)
        size = tuple(energy.shape[-2:])
        self._start(size, energy.device)
        sums, pixels = self._sums, energy[0:1].numel() or 1
        self._seen += len(energy)
        if not len(energy):
            return
        total = energy.sum((1, 2))
        valid = total.isfinite() & (total > 0)
        mean = total[:, None, None] / pixels
        relative = torch.where(valid[:, None, None], energy / mean, 0.0)
        weight = valid.double()
        sums['skipped'] += (1 - weight).sum()
        sums['energy'] += torch.where(valid, total, 0.0).sum() / pixels
        # A matrix product and no scatter: the same sum on every run.
        group = torch.nn.functional.one_hot(index % self.groups, self.groups)
        group = group.double().T * weight
        sums['images'] += group.sum(1)
        flat = relative.flatten(1)
        sums['maps'] += (group @ flat).view_as(sums['maps'])
        # About the uniform profile, 1, to lose no digits to the mean.
        means = _ring_means(size, self.radial_bins, energy.device)
        deviation = (flat @ means - 1) * weight[:, None]
        sums['products'] += deviation.T @ deviation
        score = rotational_symmetry(relative)
        has_score = score.isfinite()
        sums['symmetry'][0] += has_score.sum()
        sums['symmetry'][1] += torch.where(has_score, score, 0.0).sum()

    @property
    def n(self) -> int:
        """Images with energy so far."""
        return int(self._sums['images'].sum()) if self.size else 0

    def summary(self) -> EnergySummary:
        """Means and covariances of the images so far.

        Raises:
            ValueError: If no image has had any energy.
        """
        sums = {n: torch.from_numpy(s) for n, s in self.state().items()}
        n = self.n
        if n == 0:
            raise ValueError(
                f'none of {int(sums["skipped"])} image(s) has any energy; '
                'check the layer and its orthant map'
            )
        some = sums['images'] > 0
        sizes = sums['images'][some]
        maps = sums['maps'][some]
        mean_map = maps.sum(0) / n
        size = cast(Size, self.size)
        means = _ring_means(size, self.radial_bins, mean_map.device)
        profile = mean_map.flatten() @ means
        deviation = profile - 1
        centred = sums['products'] - n * torch.outer(deviation, deviation)
        count, score = sums['symmetry'].tolist()
        return EnergySummary(
            n,
            int(sums['skipped']),
            float(sums['energy'] / n),
            mean_map.numpy(),
            (maps / sizes[:, None, None]).numpy(),
            sizes.numpy(),
            _rings(size, self.radial_bins),
            profile.numpy(),
            (centred / (n - 1 if n > 1 else float('nan'))).numpy(),
            score / count if count else float('nan'),
        )


class AngleAccumulator(Accumulator):
    """Angles of one layer in one plane, class by class.

    Args:
        num_classes (int): K.
        bins (int): Of the histogram over ``(-pi, pi]``, from which mutual
            information and the permutation tests are computed.
    """

    @checked('AngleAccumulator')
    def __init__(self, num_classes: Count, bins: Count = 36) -> None:
        super().__init__()
        self.num_classes, self.bins = num_classes, bins

    def _shapes(self, size: Size) -> Dict[str, Size]:
        return dict(
            skipped=(),
            modulus=(self.num_classes,),
            moments=(self.num_classes, 5),
            table=(self.num_classes, self.bins),
        )

    @checked('AngleAccumulator')
    def update(self, moments: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            moments (Tensor): ``z``, ``(B, 2)``. Where it is 0 or not finite
                it has no angle; such images are counted apart.
            labels (Tensor): ``(B,)``, integers in ``[0, K)``.

        Raises:
            ValueError: If the shapes or types do not fit or a label is out
                of range.
        """
        moments = self._reals('moments', moments, 'B2')
        labels = self._numbers('labels', labels, moments)
        check_labels(labels, self.num_classes)
        self._start((), moments.device)
        if not len(labels):
            return
        valid = moments.isfinite().all(1) & (moments != 0).any(1)
        moments, labels = moments[valid], labels[valid]
        theta = angle(moments)
        columns = [torch.ones_like(theta)]
        for k in (1, 2):
            columns += [(k * theta).cos(), (k * theta).sin()]
        cell = ((theta / (2 * torch.pi) + 0.5) * self.bins).long()
        cell = labels * self.bins + cell.clamp(max=self.bins - 1)
        sums = self._sums
        sums['skipped'] += len(valid) - len(theta)
        counts = torch.bincount(cell, minlength=sums['table'].numel())
        sums['table'] += counts.view_as(sums['table'])
        by_class = torch.nn.functional.one_hot(labels, self.num_classes)
        by_class = by_class.double().T
        sums['moments'] += by_class @ torch.stack(columns, 1)
        sums['modulus'] += by_class @ moments.norm(dim=1)

    def summary(self) -> ClassAngleSummary:
        """Circular statistics of every class."""
        state = self.state()
        return summarize_class_angles(
            state['moments'], state['table'], int(state['skipped'])
        )
