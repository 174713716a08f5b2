"""An estimate has the interval and the p value of its distribution."""

import math

import numpy as np
import pytest
from scipy import stats

from u1_plugin.measure.estimate import NORMAL_QUANTILE, t_estimate


@pytest.mark.parametrize('null', [0.0, 0.25])
def test_an_estimate_of_one_degree_is_cauchy_s(null):
    """Its quantile is a tangent, its distribution an arc tangent."""
    found = t_estimate(0.4, 0.1, 1, null)
    half = 0.1 * math.tan(math.pi * 0.475)
    expected = 0.5 - math.atan((0.4 - null) / 0.1) / math.pi
    np.testing.assert_allclose(
        found, (0.4, 0.4 - half, 0.4 + half, expected), rtol=1e-9
    )
    assert null or found == t_estimate(0.4, 0.1, 1)
    # Of many degrees the law is the normal one.
    wide = t_estimate(0.4, 0.1, 1e12)
    assert math.isclose(wide.high, 0.4 + 0.1 * NORMAL_QUANTILE, rel_tol=1e-9)
    assert math.isclose(NORMAL_QUANTILE, stats.norm.ppf(0.975))


@pytest.mark.parametrize(
    'error, df, known',
    [
        (1e-7, 5, False),  # of rounding
        (math.nextafter(1e-7, 1), 5, True),
        (math.nan, 5, False),
        (0.1, math.nextafter(1, 0), False),
        (0.1, math.nan, False),
    ],
)
def test_an_error_needs_a_spread(error, df, known):
    found = t_estimate(0.4, error, df)
    assert found.value == 0.4
    assert math.isfinite(found.low) == known == math.isfinite(found.pvalue)
    assert math.isfinite(found.high) == known
