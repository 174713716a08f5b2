"""Judges tests: supported, not supported or undecided on these data."""

import math
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ...measure.circular_tests import holm
from ...measure.estimate import Chance, Estimate
from ...options import checked

SUPPORTED, REFUTED, UNDECIDED = 'supported', 'not supported', 'undecided'


class ClaimTest(NamedTuple):
    """One question to the data, before correction for their number."""

    claim: str  # ``'C1'``, ``'C2'`` or ``'C3'``
    aspect: str  # see the table above
    statistic: str  # what the estimate is of, with its unit
    n: int  # images; of ``'planes agree'`` the classes
    #: Its p-value is one-sided, of the hypothesis that the aspect does not
    #: hold; that of ``'planes agree'`` two-sided.
    estimate: Estimate
    #: The least effect that counts. The aspect is refuted where the whole
    #: interval lies below, and is not supported by an estimate below, however
    #: significant.
    least: float = 0.0
    obstacle: Optional[str] = None  # why these data cannot decide
    objection: Optional[str] = None  # why the claim fails whatever the p-value
    #: The effect may have either sign: its modulus is what must reach
    #: ``least``.
    either: bool = False
    #: Why the claim cannot be supported, whatever the p-value, though an
    #: interval may refute it.
    doubt: Optional[str] = None
    #: Upper end of the interval that may refute the aspect, where noise makes
    #: that of ``estimate`` too low.
    highest: Optional[float] = None

    @property
    def size(self) -> float:
        """The effect, as it is compared with ``least``."""
        value = self.estimate.value
        return abs(value) if self.either else value

    @property
    def remark(self) -> str:
        """What readers are told beside the numbers."""
        return self.obstacle or self.objection or self.doubt or ''

    @property
    def most(self) -> float:
        """The largest effect within the interval."""
        low, high = self.estimate.low, self.estimate.high
        if self.highest is not None:
            high = self.highest
        return max(abs(low), abs(high)) if self.either else high


class Finding(NamedTuple):
    """A test with its place, its corrected p-value and its verdict."""

    layer: str  # where
    test: ClaimTest  # the question
    corrected: float  # p-value after Holm over all tests judged together
    verdict: str  # ``'supported'``, ``'not supported'`` or ``'undecided'``

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
            least=test.least,
            pvalue=estimate.pvalue,
            corrected=self.corrected,
            remark=test.remark,
        )


def _verdict(test: ClaimTest, corrected: float, alpha: float) -> str:
    if test.obstacle or math.isnan(test.estimate.value):
        return UNDECIDED
    if test.objection or test.most < test.least:
        return REFUTED
    shown = corrected < alpha and test.size >= test.least and not test.doubt
    return SUPPORTED if shown else UNDECIDED


@checked()
def judge(
    tests: Mapping[str, Sequence[ClaimTest]], alpha: Chance = 0.05
) -> List[Finding]:
    """Correct all tests of an analysis together and decide each.

    An aspect is supported if its corrected p-value is below ``alpha`` and its
    estimate reaches the least effect that counts, not supported if its whole
    interval lies below that effect or there is an objection, and undecided
    otherwise. A doubt takes from an aspect that it could be supported, and
    leaves its place in the correction.

    Args:
        tests (Mapping[str, Sequence[ClaimTest]]): By layer.
        alpha (float): In (0, 1).

    Returns:
        List[Finding]: In the order given.

    Raises:
        ValueError: If ``alpha`` is out of its range.
    """
    flat = [
        (layer, test)
        for layer, layer_tests in tests.items()
        for test in layer_tests
    ]
    # A test that the data cannot decide must not cost the others power.
    pvalues = [
        math.nan if test.obstacle else test.estimate.pvalue for _, test in flat
    ]
    return [
        Finding(layer, test, float(corrected), _verdict(test, corrected, alpha))
        for (layer, test), corrected in zip(flat, holm(np.array(pvalues)))
    ]


def claim_verdict(findings: Sequence[Finding]) -> str:
    """The verdict of a claim, which holds where all of its aspects do.

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
