"""A number with its interval and p-value, and numbers as JSON knows them."""

import math
from statistics import NormalDist
from typing import Annotated, Any, Mapping, NamedTuple

import numpy as np

from ..extras import needs
from ..options import Range

#: So many that there is a spread; as large as any count.
Several = Annotated[int, Range(2, 2**31 - 1)]
#: A probability that is neither impossible nor certain.
Chance = Annotated[float, Range(0, 1, low_open=True, high_open=True)]

#: Of every interval of the analysis.
CONFIDENCE = 0.95
#: Half of a normal interval, in standard errors.
NORMAL_QUANTILE = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

#: Standard errors below this are the rounding of sums of squares: quantities
#: of the analysis are of the order of 1.
_ROUNDING = 1e-7


class Estimate(NamedTuple):
    """A quantity as the data show it.

    Attributes:
        value (float): Best estimate.
        low (float): Lower end of the :data:`CONFIDENCE` interval.
        high (float): Upper end.
        pvalue (float): Of the hypothesis that the quantity is no larger than
            its ``null``, one-sided unless the function that returns it says
            two-sided; NaN where the spread is not known.
    """

    value: float
    low: float
    high: float
    pvalue: float


#: Where the data say nothing of a quantity.
UNKNOWN = Estimate(*[math.nan] * 4)


def t_estimate(
    value: float, error: float, df: float, null: float = 0.0
) -> Estimate:
    """Student's interval and one-sided p-value.

    Args:
        value (float): Best estimate.
        error (float): Its standard error. Up to rounding 0 means that all
            observations are the same, which says nothing of the spread:
            interval and p-value are NaN.
        df (float): Degrees of freedom of ``error``.
        null (float): The hypothesis is that the quantity is <= ``null``.

    Returns:
        Estimate: In the unit of ``value``.
    """
    quantile = t_quantile(error, df)
    if math.isnan(quantile):
        return UNKNOWN._replace(value=value)
    with needs('lab'):  # here, for it takes a second to import
        from scipy import stats
    half_width = error * quantile
    pvalue = float(stats.t.sf((value - null) / error, df))
    return Estimate(value, value - half_width, value + half_width, pvalue)


def t_quantile(error: float, df: float) -> float:
    """Half of Student's :data:`CONFIDENCE` interval, in standard errors.

    Returns:
        float: NaN where that error says nothing, see :func:`t_estimate`.
    """
    if not error > _ROUNDING or not df >= 1:
        return math.nan
    with needs('lab'):
        from scipy import stats
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, df))


def jsonable(value: Any) -> Any:
    """For JSON: named tuples as mappings, arrays as lists, NaN as null."""
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): jsonable(part) for key, part in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return jsonable(value.tolist())
    if isinstance(value, (list, tuple)):
        return [jsonable(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
