"""95 % intervals of a median, of a mean and of the difference of two means.

They are written out because scipy, which has both distributions, is not a dependency of this package.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]


def median_interval(values: Sequence[float]) -> Interval:
    """95 % interval of the median of values in the order in which they were taken, for any distribution.

    The ends are two of the values (order statistics). An independent value is below the true median with probability
    1/2, so the number of values below it is binomial; its normal approximation tells how far out the ends must be.
    Successive times are often alike, because a disturbance lasts longer than a pass. The variance of that number is
    then larger by (1 + r) / (1 - r), where r is the correlation of "above or below the median" between neighbours, and
    the ends move outwards, at most to the minimum and maximum. With fewer than 9 values they are always the minimum
    and maximum. With fewer than 6 values even these contain the median in less than 95 % of cases.
    """
    ordered, count = sorted(values), len(values)
    sides = np.sign(np.asarray(values) - statistics.median(values))
    correlation = max(0.0, float(sides[:-1] @ sides[1:]) / max(1.0, float(sides @ sides)))  # < 1: one product fewer
    halfwidth = 1.96 * math.sqrt(count * (1 + correlation) / (1 - correlation))
    outside = max(0, math.floor((count - 1 - halfwidth) / 2))  # -1: continuity correction
    return ordered[outside], ordered[-1 - outside]


def mean_interval(values: Sequence[float]) -> Interval | None:
    """95 % interval of the mean by Student's t; None with fewer than two values."""
    if len(values) < 2:
        return None
    half = _t_quantile(len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - half, statistics.mean(values) + half


def difference_interval(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """95 % interval of the difference of two means by Welch's t, for values that do not come in pairs.

    None with fewer than two values on a side.
    """
    if min(len(first), len(second)) < 2:
        return None
    shares = [statistics.variance(values) / len(values) for values in (first, second)]
    squares = sum(share**2 / (len(values) - 1) for share, values in zip(shares, (first, second), strict=True))
    fewest = min(len(first), len(second)) - 1
    df = max(fewest, math.floor(sum(shares) ** 2 / squares)) if squares else fewest  # rounded to the wider interval
    difference = statistics.mean(first) - statistics.mean(second)
    half = _t_quantile(df) * math.sqrt(sum(shares))
    return difference - half, difference + half


def _t_quantile(df: int) -> float:
    """97.5 % of Student's t: from a table up to 4 degrees of freedom, and from its series in 1/df above."""
    z = 1.959964
    series = z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    series += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
    return {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764}.get(df, series)
