"""Claims C1, C2 and C3: supported, not supported or undecided on these data.

Each claim is a few tests, and holds where all of them do:

=====  =================  ==================================================
claim  aspect             what is shown if it is supported
=====  =================  ==================================================
C1     concentrated       more energy within half the half diagonal than a
                          uniform map has, paired over the images
C1     symmetric          turned by quarter turns, the mean map correlates
                          with itself by more than 1/2
C2     crown              b > 0: the energy falls from the axis outwards, and
                          the rings about the axis lie above the trough's
C2     quartic            a > 0: and falls ever less
C2     brim               2 a R^2 > b: the trough ``sqrt(b / 2a)`` lies within
                          the outermost ring R, and the outer rings lie above
                          the trough's
C3     angle depends on   mutual information of angle and class, beyond
       class, PLANE       permuted labels
C3     class means        the classes' mean angles differ: they predict those
       differ, PLANE      of images that are left out better than one for all
C3     planes agree       Fisher and Lee's correlation of the classes' mean
                          angles in both planes, against permuted classes
=====  =================  ==================================================

Each has a least effect that counts; an estimate below supports nothing,
however significant. ``tools/studies/verdict_rates.py`` tells how often each
verdict errs with these.

A resultant length alone supports nothing: where all classes share one angle
it is high, and no symmetry is broken.
"""

import math
from typing import List, Mapping, Optional

import numpy as np

from ...measure.circular_tests import ClassAngleSummary
from ...measure.correlations import fisher_lee_correlation
from ...measure.estimate import UNKNOWN, Estimate
from ...measure.information import class_dependence, occupied_bins
from ...measure.noise_correction import highest_symmetry
from ...measure.profile import EnergySummary, concentration, symmetry
from ...measure.sombrero import fit_sombrero, heights
from .judging import ClaimTest

#: Fewer images than this decide nothing.
MIN_IMAGES = 20

#: Fewer classes with an angle in both planes decide nothing of these.
MIN_CLASSES = 5

#: A Sombrero must explain this share of the profile's variance.
MIN_R2 = 0.5

#: Crown and brim must rise above the trough by this share of the uniform
#: density.
MIN_HEIGHT = 0.1

#: Excess shares below this are no effect, however significant.
MIN_SHARE = 0.01

#: Within which energy is concentrated, half diagonals.
_RADIUS = 0.5

#: Angles that fill fewer bins than this may differ within them, unseen.
MIN_BINS = 4
_NARROW = (
    f'the angles fill fewer than {MIN_BINS} bins, within which no difference '
    'is seen'
)

#: The mean map is symmetric if its score exceeds this.
MIN_SYMMETRY = 0.5

#: Correlations of the planes below this are no agreement.
MIN_CORRELATION = 0.1


def few_images(n: int) -> Optional[str]:
    """Why so many images decide nothing; None where they are enough."""
    if n < MIN_IMAGES:
        return f'{n} images; at least {MIN_IMAGES} are needed'
    return None


def few_classes(n: int) -> Optional[str]:
    """Why so many classes' angles do not tell whether planes agree."""
    if n < MIN_CLASSES:
        return f'{n} classes; at least {MIN_CLASSES} are needed'
    return None


def _few_repeated(count: np.ndarray) -> Optional[str]:
    """Why classes of so many images, at least two each, tell no angles."""
    if len(count) < 2:
        return f'{len(count)} classes of two images or more; 2 are needed'
    return few_images(int(count.sum()))


def concentration_tests(summary: EnergySummary) -> List[ClaimTest]:
    """C1: is the energy concentrated at, and symmetric about, the axis?

    The noise of the images lowers the symmetry of their mean map, so that it
    is refuted only by the interval without that noise.

    Args:
        summary (EnergySummary): Of one layer.
    """
    few = few_images(summary.n)
    if len(summary.profile) < 2:
        few = 'the map has one ring; choose an earlier layer or larger inputs'
    result = concentration(summary, _RADIUS)
    turned = symmetry(summary, MIN_SYMMETRY)
    flat = 'the mean map is flat' if math.isnan(turned.value) else None
    highest = highest_symmetry(summary.group_maps, summary.group_sizes)
    doubt = None
    if turned.high < MIN_SYMMETRY and not highest < MIN_SYMMETRY:
        doubt = 'noise lowers it; more images would tell'
    return [
        ClaimTest(
            'C1',
            'concentrated',
            f'share of energy within r = {_RADIUS}, less the uniform share',
            summary.n,
            result.excess,
            MIN_SHARE,
            few,
        ),
        ClaimTest(
            'C1',
            'symmetric',
            'correlation of the mean map with its quarter turns',
            summary.n,
            turned,
            MIN_SYMMETRY,
            few or flat,
            doubt=doubt,
            highest=highest,
        ),
    ]


def sombrero_tests(summary: EnergySummary) -> List[ClaimTest]:
    """C2: is the radial profile a Sombrero?

    The fit says of which sign the curvatures are and where the trough is, the
    measured rings how high crown and brim are above it. Significant must be
    both, and the larger p-value counts. A curve that explains too little of
    the sampled profile supports nothing, and refutes the claim only if that
    is not the noise of the images: if the interval of R^2 lies below.
    """
    obstacle, objection, doubt = few_images(summary.n), None, None
    quartic = crown = brim = UNKNOWN
    rings = len(summary.profile)
    if rings >= 3:
        fit = fit_sombrero(summary)
        height = heights(summary, fit)
        quartic = fit.a
        crown, brim = _both(height.crown, fit.b), _both(height.brim, fit.rim)
        if fit.r2_high < MIN_R2:
            objection = f'the curve explains {fit.r2:.0%} of the profile'
        elif fit.r2 < MIN_R2:
            doubt = (
                f'the curve explains {fit.r2:.0%} of the profile, noise '
                'included; more images would tell'
            )
    if rings < 4:
        obstacle = (
            f'{rings} ring(s), which three coefficients fit whatever they '
            'are; choose an earlier layer or larger inputs'
        )
    above = 'above the trough, in uniform densities'
    return [
        ClaimTest(
            'C2',
            aspect,
            name,
            summary.n,
            estimate,
            least,
            obstacle,
            objection,
            doubt=doubt,
        )
        for aspect, name, estimate, least in (
            ('crown', f'energy at the axis {above}', crown, MIN_HEIGHT),
            ('quartic', 'a', quartic, 0.0),
            ('brim', f'energy at the rim {above}', brim, MIN_HEIGHT),
        )
    ]


def _both(height: Estimate, sign: Estimate) -> Estimate:
    """A height whose sign the fit must show as well."""
    larger = max(height.pvalue, sign.pvalue)
    if math.isnan(height.pvalue + sign.pvalue):
        larger = math.nan
    return height._replace(pvalue=larger)


def angle_tests(
    planes: Mapping[str, ClassAngleSummary],
    permutations: int = 9999,
    seed: int = 0,
) -> List[ClaimTest]:
    """C3: has each class an angle of its own, and in both planes the same?

    Args:
        planes (Mapping[str, ClassAngleSummary]): Of one layer, by plane:
            ``'feature'`` and ``'image'``, or one of them.
        permutations (int): Of every permutation test. The smallest p-value,
            ``1 / (permutations + 1)``, must survive the correction for all
            tests that :func:`judge` sees together.
        seed (int): Of these.
    """
    tests = []
    for plane, summary in planes.items():
        obstacle = few_images(summary.n)
        if obstacle is None and (summary.count > 0).sum() < 2:
            obstacle = 'images of one class only'
        dependence = class_dependence(summary.table, permutations, seed=seed)
        narrow = occupied_bins(summary.table) < MIN_BINS
        count = summary.count[summary.count > 1]
        for aspect, name, estimate, n, against in (
            (
                f'angle depends on class, {plane} plane',
                'mutual information with the class, adjusted for chance',
                dependence.information_share,
                summary.n,
                obstacle,
            ),
            (
                f'class means differ, {plane} plane',
                'variance of left-out images that class angles explain',
                dependence.between_share,
                int(count.sum()),
                obstacle or _few_repeated(count),
            ),
        ):
            tests.append(
                ClaimTest(
                    'C3',
                    aspect,
                    name,
                    n,
                    estimate,
                    MIN_SHARE,
                    against,
                    # Bins can only hide a dependence, not make one.
                    doubt=_NARROW
                    if narrow and estimate.value < MIN_SHARE
                    else None,
                    highest=1.0 if narrow else None,
                )
            )
    if len(planes) == 2:
        tests.append(_agreement(*planes.values(), permutations, seed))
    return tests


def _agreement(
    first: ClassAngleSummary,
    second: ClassAngleSummary,
    permutations: int,
    seed: int,
) -> ClaimTest:
    correlation = fisher_lee_correlation(
        first.mean, second.mean, permutations, seed=seed
    )
    classes = int((~np.isnan(first.mean) & ~np.isnan(second.mean)).sum())
    obstacle = few_images(min(first.n, second.n))
    obstacle = few_classes(classes) or obstacle
    return ClaimTest(
        'C3',
        'planes agree',
        "Fisher and Lee's correlation of the classes' means in both planes",
        classes,
        correlation,
        MIN_CORRELATION,
        obstacle,
        either=True,  # either turn of the plane counts
    )
