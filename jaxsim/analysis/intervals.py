"""Proportions with their counts and intervals."""

import dataclasses

import numpy as np
import scipy.stats

from jaxsim.analysis.verdict import VERDICTS


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
    """A proportion with Wilson's score interval.

    Args:
        count: successes.
        total: trials, at least 1.
        level: confidence level.

    Reference:
        Wilson 1927; computed by scipy.stats.binomtest.

    Example:
        >>> p = wilson(50, 100)
        >>> round(p.low, 3), round(p.high, 3)
        (0.404, 0.596)
    """
    interval = scipy.stats.binomtest(count, total).proportion_ci(level, method="wilson")
    return Proportion(count, total, float(interval.low), float(interval.high), level)


def fractions(verdict: np.ndarray, level: float = 0.95) -> dict[str, Proportion]:
    """The proportion of lanes with each verdict, out of all lanes."""
    return {name: wilson(int(np.count_nonzero(verdict == name)), len(verdict), level) for name in VERDICTS}
