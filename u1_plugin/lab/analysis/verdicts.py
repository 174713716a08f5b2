"""Claims C1, C2 and C3: supported, not supported or undecided on these data.

Each claim is a few tests, and holds where all of them do:

=====  =================  ==================================================
claim  aspect             what is shown if it is supported
=====  =================  ==================================================
C1     concentrated       more energy within half the half diagonal than a
                          uniform map has, paired over the images
C1     symmetric          turned by quarter turns, the mean map correlates
                          with itself by more than 1/2
C2     peak               b > 0: the energy falls from the axis outwards
C2     quartic            a > 0: and falls ever less
C2     rim                2 a R^2 > b: the trough ``sqrt(b / 2a)`` lies within
                          the outermost ring R
C3     angle depends on   mutual information of angle and class, beyond
       class, PLANE       permuted labels
C3     class means        the classes' mean angles differ: they explain more
       differ, PLANE      of the circular variance than with permuted labels
C3     planes agree       circular correlation of the classes' mean angles in
                          both planes, against permuted classes
=====  =================  ==================================================

A resultant length alone supports nothing: where all classes share one angle
it is high, and no symmetry is broken.
"""

import math
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ...measure.circular_tests import (
    ClassAngleSummary,
    circular_correlation,
    holm,
)
from ...measure.estimate import Chance, Estimate
from ...measure.information import class_dependence
from ...measure.profile import (
    EnergySummary,
    concentration,
    fit_sombrero,
    symmetry,
)
from ...options import checked

SUPPORTED, REFUTED, UNDECIDED = 'supported', 'not supported', 'undecided'

#: Fewer images than this decide nothing.
MIN_IMAGES = 20

#: A Sombrero must explain this share of the profile's variance.
MIN_R2 = 0.5

#: Excess shares below this are no effect, however significant.
MIN_SHARE = 0.01

#: The mean map is symmetric if its score exceeds this.
MIN_SYMMETRY = 0.5

#: Correlations of the planes below this are no agreement.
MIN_CORRELATION = 0.1


class Test(NamedTuple):
    """One question to the data, before correction for their number.

    Attributes:
        claim (str): ``'C1'``, ``'C2'`` or ``'C3'``.
        aspect (str): See the table above.
        statistic (str): What the estimate is of, with its unit.
        n (int): Images; of ``'planes agree'`` the classes.
        estimate (Estimate): Its p-value is one-sided, of the hypothesis that
            the aspect does not hold; that of ``'planes agree'`` two-sided.
        least (float): The aspect is refuted where the whole interval lies
            below.
        obstacle (str, optional): Why these data cannot decide.
        objection (str, optional): Why the claim fails whatever the p-value.
    """

    # Not a test of the package's own, which pytest would collect.
    __test__ = False

    claim: str
    aspect: str
    statistic: str
    n: int
    estimate: Estimate
    least: float = 0.0
    obstacle: Optional[str] = None
    objection: Optional[str] = None


class Finding(NamedTuple):
    """A test with its place, its corrected p-value and its verdict.

    Attributes:
        layer (str): Where.
        test (Test): The question.
        corrected (float): p-value after Holm over all tests judged together.
        verdict (str): ``'supported'``, ``'not supported'`` or
            ``'undecided'``.
    """

    layer: str
    test: Test
    corrected: float
    verdict: str

    def row(self) -> Dict[str, object]:
        """Flat, for tables and JSON."""
        test, estimate = self.test, self.test.estimate
        return dict(
            layer=self.layer,
            claim=test.claim,
            aspect=test.aspect,
            verdict=self.verdict,
            n=test.n,
            statistic=test.statistic,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            pvalue=estimate.pvalue,
            corrected=self.corrected,
            remark=test.obstacle or test.objection or '',
        )


def _few(n: int) -> Optional[str]:
    if n < MIN_IMAGES:
        return f'{n} images; at least {MIN_IMAGES} are needed'
    return None


def concentration_tests(
    summary: EnergySummary, radius: float = 0.5
) -> List[Test]:
    """C1: is the energy concentrated at, and symmetric about, the axis?

    Args:
        summary (EnergySummary): Of one layer.
        radius (float): Half diagonals.
    """
    few = _few(summary.n)
    if len(summary.profile) < 2:
        few = 'the map has one ring; choose an earlier layer or larger inputs'
    found = concentration(summary, radius)
    turned = symmetry(summary, MIN_SYMMETRY)
    flat = 'the mean map is flat' if math.isnan(turned.value) else None
    return [
        Test(
            'C1',
            'concentrated',
            f'share of energy within r = {radius:g}, less the uniform share',
            summary.n,
            found.excess,
            MIN_SHARE,
            few,
        ),
        Test(
            'C1',
            'symmetric',
            'correlation of the mean map with its quarter turns',
            summary.n,
            turned,
            MIN_SYMMETRY,
            few or flat,
        ),
    ]


def sombrero_tests(summary: EnergySummary) -> List[Test]:
    """C2: is the radial profile a Sombrero?

    Args:
        summary (EnergySummary): Of one layer.
    """
    obstacle, objection = _few(summary.n), None
    unknown = Estimate(*[math.nan] * 4)
    a = b = rim = unknown
    rings = len(summary.profile)
    if rings >= 3:
        fit = fit_sombrero(summary)
        a, b, rim = fit.a, fit.b, fit.rim
        if fit.r2 < MIN_R2:
            objection = f'the curve explains {fit.r2:.0%} of the profile'
    if rings < 4:
        obstacle = (
            f'{rings} ring(s), which three coefficients fit whatever they '
            'are; choose an earlier layer or larger inputs'
        )
    return [
        Test('C2', aspect, name, summary.n, found, 0.0, obstacle, objection)
        for aspect, name, found in (
            ('peak', 'b', b),
            ('quartic', 'a', a),
            ('rim', '2 a R^2 - b', rim),
        )
    ]


def angle_tests(
    planes: Mapping[str, ClassAngleSummary],
    permutations: int = 9999,
    seed: int = 0,
) -> List[Test]:
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
        obstacle = _few(summary.n)
        if (summary.count > 0).sum() < 2:
            obstacle = 'images of one class only'
        found = class_dependence(summary.table, permutations, seed=seed)
        for aspect, name, estimate in (
            (
                f'angle depends on class, {plane} plane',
                'mutual information with the class, adjusted for chance',
                found.information_share,
            ),
            (
                f'class means differ, {plane} plane',
                'circular variance between classes, adjusted for chance',
                found.between_share,
            ),
        ):
            tests.append(
                Test(
                    'C3',
                    aspect,
                    name,
                    summary.n,
                    estimate,
                    MIN_SHARE,
                    obstacle,
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
) -> Test:
    found = circular_correlation(first.mean, second.mean, permutations, seed)
    classes = int((~np.isnan(first.mean) & ~np.isnan(second.mean)).sum())
    obstacle = _few(min(first.n, second.n))
    if classes < 5:
        obstacle = f'{classes} classes; at least 5 are needed'
    # Either turn of the plane counts, so that only an interval close to 0 on
    # both sides speaks against agreement.
    objection = None
    if max(abs(found.low), abs(found.high)) < MIN_CORRELATION:
        objection = f'below {MIN_CORRELATION} either way'
    return Test(
        'C3',
        'planes agree',
        "circular correlation of the classes' means in both planes",
        classes,
        found,
        -math.inf,
        obstacle,
        objection,
    )


def _verdict(test: Test, corrected: float, alpha: float) -> str:
    if test.obstacle or math.isnan(test.estimate.value):
        return UNDECIDED
    if test.objection or test.estimate.high < test.least:
        return REFUTED
    return SUPPORTED if corrected < alpha else UNDECIDED


@checked()
def judge(
    tests: Mapping[str, Sequence[Test]], alpha: Chance = 0.05
) -> List[Finding]:
    """Correct all tests of an analysis together and decide each.

    An aspect is supported if its corrected p-value is below ``alpha``, not
    supported if its whole interval lies below the least effect that counts or
    there is an objection, and undecided otherwise.

    Args:
        tests (Mapping[str, Sequence[Test]]): By layer.
        alpha (float): In (0, 1).

    Returns:
        List[Finding]: In the order given.

    Raises:
        ValueError: If ``alpha`` is out of its range.
    """
    flat = [(layer, test) for layer, own in tests.items() for test in own]
    # A test that the data cannot decide must not cost the others power.
    pvalues = [
        math.nan if test.obstacle else test.estimate.pvalue for _, test in flat
    ]
    return [
        Finding(layer, test, float(corrected), _verdict(test, corrected, alpha))
        for (layer, test), corrected in zip(flat, holm(np.array(pvalues)))
    ]


def claim_verdict(findings: Sequence[Finding]) -> str:
    """Of a claim with several aspects: it holds where all of them do.

    Args:
        findings (Sequence[Finding]): Of one claim and one layer.

    Returns:
        str: ``'not supported'`` if one aspect is not, ``'supported'`` if all
        are, ``'undecided'`` otherwise.
    """
    verdicts = {finding.verdict for finding in findings}
    if REFUTED in verdicts:
        return REFUTED
    return SUPPORTED if verdicts == {SUPPORTED} else UNDECIDED
