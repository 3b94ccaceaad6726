"""Proportions with their counts and intervals, and an interval of a median. The tests measure what each covers."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsim._check import open_share
from jaxsim.analysis.verdict import VERDICTS

HALVINGS = 60  # from an interval of length 1 to rounding


@dataclasses.dataclass(frozen=True)
class Proportion:
    """`count` of `total`, with a confidence interval [low, high] of the given level."""

    count: int
    total: int
    low: float
    high: float
    level: float

    @property
    def value(self) -> float:
        """Count / total."""
        return self.count / self.total


def wilson(count: int, total: int, level: float = 0.95) -> Proportion:
    """A proportion with Wilson's score interval; what it covers is told at `wilson_bounds`.

    Args:
        count: successes.
        total: trials, at least 1.
        level: confidence level.

    Reference:
        Wilson 1927.

    Example:
        >>> p = wilson(50, 100)
        >>> round(p.low, 3), round(p.high, 3)
        (0.404, 0.596)
    """
    low, high = wilson_bounds(count, total, level)
    return Proportion(count, total, float(low), float(high), level)


def wilson_bounds(count: Any, total: Any, level: float = 0.95) -> tuple[Float[np.ndarray, "..."], ...]:
    """Lower and upper ends of Wilson's score interval for arrays of counts and totals, each total at least 1.

    At the level 0.95 it covers 95% on average over fractions p, for every total. It is no bound for each p: at worst,
    where a verdict is so rare that total · p is near 0.18, or as near to 1, it covers 83% (79% of one lane, 82% of
    two); of ten lanes or more, 91% where at least one with the verdict and one without are expected. Counted by
    enumeration, and held in the tests. `exact_bounds` covers every p.

    Example:
        >>> low, high = wilson_bounds([0, 50], 100)
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([0.0, 0.404], [0.037, 0.596])
    """
    import scipy.special  # slow to import

    count, total = np.asarray(count, float), np.asarray(total, float)
    open_share("level", level)
    z = scipy.special.ndtri(0.5 + level / 2)
    centre = (count + z * z / 2) / (total + z * z)
    half = z / (total + z * z) * np.sqrt(count * (total - count) / total + z * z / 4)
    low, high = np.where(count == 0, 0.0, centre - half), np.where(count == total, 1.0, centre + half)
    return low, high


def exact_bounds(count: Any, total: Any, level: float = 0.95) -> tuple[Float[np.ndarray, "..."], ...]:
    """Lower and upper ends of the exact interval of a proportion, for arrays of counts and totals, each at least 1.

    From the two binomial tests of level (1 - level)/2 each, so that it covers every fraction with `level` at least.

    Reference:
        Clopper and Pearson 1934.

    Example:
        >>> low, high = exact_bounds([0, 50], 100)
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([0.0, 0.398], [0.036, 0.602])
    """
    import scipy.special  # slow to import

    count, total = np.broadcast_arrays(np.asarray(count, float), np.asarray(total, float))
    tail, missed = (1 - open_share("level", level)) / 2, total - count
    low = scipy.special.betaincinv(np.maximum(count, 1), missed + 1, tail)
    high = scipy.special.betaincinv(count + 1, np.maximum(missed, 1), 1 - tail)
    return np.where(count == 0, 0.0, low), np.where(missed == 0, 1.0, high)


def median_bounds(values: Any, level: float = 0.95) -> tuple[float, float]:
    """An interval of the median of what independent values are drawn from, whatever that is: two of the values.

    The k-th smallest and the k-th largest, k as large as the binomial distribution allows: the number of values below
    the median is binomial with 1/2, so the interval misses with probability 2 P(fewer than k of n) at most. It needs
    no other assumption, and values may even differ in their spread.

    Args:
        values: (n,), finite.
        level: confidence level.

    Returns:
        The two ends; NaN where no two of so few values suffice, at the level 0.95 fewer than six.

    Reference:
        The interval of the sign test (Thompson 1936).

    Example:
        >>> median_bounds([3, 1, 4, 1, 5, 9])
        (1.0, 9.0)
        >>> median_bounds([3, 1, 4, 1, 5])
        (nan, nan)
    """
    import scipy.special  # slow to import

    ordered = np.sort(np.asarray(values, float))
    n = len(ordered)
    k = int(np.sum(2 * scipy.special.bdtr(np.arange(n // 2), n, 0.5) <= 1 - open_share("level", level)))
    return (float(ordered[k - 1]), float(ordered[n - k])) if k else (np.nan, np.nan)


def anytime_bounds(count: Any, total: Any, level: float = 0.95) -> tuple[Float[np.ndarray, "..."], ...]:
    r"""Lower and upper ends of a confidence sequence for a proportion: valid whenever one stops, for whatever reason.

    With a Beta(½, ½) prior on a rival proportion, the ratio of the mixture's likelihood to that of p,

        M_n(p) = B(s + ½, n - s + ½) / B(½, ½) · p^-s (1 - p)^-(n - s),

    is a martingale of mean 1 when p is the truth, so by Ville's inequality it ever exceeds 1/α with probability at
    most α = 1 - level. The interval is {p: M_n(p) < 1/α}; with that probability at most, any of the intervals at
    n = 1, 2, … misses p.

    Args:
        count: successes s.
        total: trials n, at least 0; without trials the interval is [0, 1].
        level: confidence level, of the whole sequence.

    Returns:
        Lower and upper ends, in the shape of the arguments.

    Reference:
        Ville's inequality on a mixture of likelihood ratios; prior and form are a convention of this project.

    Example:
        >>> low, high = anytime_bounds([0, 50], 100)
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([0.0, 0.338], [0.057, 0.662])
    """
    import scipy.special  # slow to import

    count, total = np.broadcast_arrays(np.asarray(count, float), np.asarray(total, float))
    missed = total - count
    mixture = scipy.special.betaln(count + 0.5, missed + 0.5) - scipy.special.betaln(0.5, 0.5)
    limit = mixture + np.log(1 - level)  # of s log p + (n - s) log(1 - p), from below
    best = np.divide(count, total, out=np.full(count.shape, 0.5), where=total > 0)

    def end(outer: float) -> np.ndarray:
        inside, outside = best.copy(), np.full(best.shape, outer)
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            covered = scipy.special.xlogy(count, middle) + scipy.special.xlog1py(missed, -middle) > limit
            inside, outside = np.where(covered, middle, inside), np.where(covered, outside, middle)
        return outside

    return np.where(count == 0, 0.0, end(0.0)), np.where(missed == 0, 1.0, end(1.0))


BOUNDS = {"wilson": wilson_bounds, "anytime": anytime_bounds}
KINDS = {
    "anytime": "valid whenever one stops",
    "wilson": "Wilson's, for a number of lanes fixed beforehand: 95% is what they cover on average over fractions; "
    "where a verdict is so rare that hardly one lane is expected, down to 83%",
}


def fractions(verdict: np.ndarray, level: float = 0.95) -> dict[str, Proportion]:
    """The proportion of lanes with each verdict, out of all lanes."""
    return {name: wilson(int(np.count_nonzero(verdict == name)), len(verdict), level) for name in VERDICTS}
