"""Is the difference between two runs more than luck of the users drawn? Paired tests over users.

Everything works on one float64 vector of differences per user, run minus baseline, both measured on the same users.
Equal values are drawn together (the counts of a resample are multinomial, those of random signs binomial), which is
the same distribution as drawing user by user and needs time and memory by the number of *different* values: a hit
rate has three of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from rec_core.errors import DataError
from rec_core.randomness import generator
from rec_core.types.ids import Float64

_CELLS = 2**20  # random numbers in memory at once
_EXACT_USERS = 16  # up to so many non-zero differences, all sign patterns are enumerated


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the limits of its confidence interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    differences: npt.ArrayLike, *, seed: int = 0, level: float = 0.95, draws: int = 10_000
) -> Interval:
    """Percentile bootstrap interval of the mean difference, users resampled with replacement.

    Efron and Tibshirani 1993, chapter 13. The interval is too narrow for a handful of users (20 are few). One user, or
    all differences equal, gives an interval of width 0.
    """
    values = _finite(differences)
    distinct, counts = np.unique(values, return_counts=True)
    rng = generator(seed, "paired bootstrap")
    means = np.empty(draws)
    few = len(distinct) * 8 <= len(values)
    step = max(1, _CELLS // (len(distinct) if few else len(values)))
    for start in range(0, draws, step):
        n = min(step, draws - start)
        if few:
            resampled = rng.multinomial(len(values), counts / len(values), size=n)
            means[start : start + n] = resampled @ distinct / len(values)
        else:
            means[start : start + n] = values[rng.integers(0, len(values), (n, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def permutation_test(differences: npt.ArrayLike, *, seed: int = 0, draws: int = 10_000) -> float:
    """Two-sided p-value of the paired permutation (sign-flip) test of a zero mean difference.

    Under the hypothesis the two runs could be exchanged for every user, so each difference could as well have the
    other sign (Fisher's randomisation test). With at most 16 users that differ, all sign patterns are counted and the
    value is exact; else ``draws`` random ones, ``p = (1 + as extreme) / (1 + draws)``, never 0 (Phipson and Smyth
    2010). Users without a difference change nothing; where there are only such, p is 1.
    """
    values = _finite(differences)
    sizes, counts = np.unique(np.abs(values[values != 0]), return_counts=True)
    if len(sizes) == 0:
        return 1.0
    observed = abs(float(values.sum()))
    limit = observed - 1e-9 * float(sizes @ counts)  # sums of the same numbers in another order are equal
    n = int(counts.sum())
    if n <= _EXACT_USERS:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        sums = (2 * patterns - 1) @ np.repeat(sizes, counts)
        return float((np.abs(sums) >= limit).mean())
    rng = generator(seed, "permutation test")
    extreme = 0
    step = max(1, _CELLS // len(sizes))
    for start in range(0, draws, step):
        shape = (min(step, draws - start), len(sizes))
        positive = rng.binomial(counts, 0.5, shape) if (counts > 1).any() else rng.integers(0, 2, shape)
        extreme += int((np.abs((2 * positive - counts) @ sizes) >= limit).sum())
    return (1 + extreme) / (1 + draws)


def holm(p_values: Sequence[float] | Float64) -> Float64:
    """P-values corrected for several comparisons, float64, in the order given.

    The i-th smallest of m is multiplied by m - i + 1 and never falls below the one before it, at most 1: rejecting
    what is below a level keeps the chance of *any* false rejection below that level (Holm 1979).
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def minimum_detectable_effect(differences: npt.ArrayLike, *, power: float = 0.8, level: float = 0.05) -> float:
    """The smallest true mean difference that a two-sided test at ``level`` finds with the given power here.

    ``(z(1 - level/2) + z(power)) * s / sqrt(n)`` with the spread s of the given differences: the normal approximation
    of a paired test. A claim of "no difference" says no more than "not larger than this". NaN for a single user.
    """
    values = _finite(differences)
    if len(values) < 2:
        return float("nan")
    z = NormalDist().inv_cdf
    return (z(1 - level / 2) + z(power)) * float(values.std(ddof=1)) / sqrt(len(values))


def _finite(differences: npt.ArrayLike) -> Float64:
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"a paired test needs one difference per user; got an array of shape {list(values.shape)}")
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"the difference of user {at} is {values[at]}; leave out users where a metric is not defined")
    return values
