"""Rule against rule on the same initialisations: contingency tables, paired tests, and where they disagree."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int

from jaxsim._check import one_of, whole_number
from jaxsim.analysis import VERDICTS, exact_bounds
from jaxsim.analysis.verdict import codes
from jaxsim.basins.maps import BasinMap
from jaxsim.results import STARTS, Run
from jaxsim.results.saved import Saved


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference of two proportions, first minus second, with an interval."""

    value: float
    low: float
    high: float
    level: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison(Saved):
    """What `compare` returns, about one verdict of two rules on the same lanes.

    Attributes:
        verdict: the verdict compared.
        rules: the two rules.
        table: lanes by the first and the second rule's verdict, (6, 6), in the order of `jaxsim.analysis.VERDICTS`.
        only_first, only_second: lanes with the verdict under one rule alone; their indices.
        p_value: McNemar's exact test of equal fractions: the first count is binomial with 1/2 among these lanes.
        settings: what the two runs share.
        paired: the difference of the fractions with an interval that uses the pairing, as (value, low, high, level).
        unpaired: the same as if the lanes were different ones, for comparison.
    """

    kind: ClassVar[str] = "comparison"

    verdict: str
    rules: tuple[str, str]
    table: Int[np.ndarray, "6 6"]
    only_first: Int[np.ndarray, " b"]
    only_second: Int[np.ndarray, " c"]
    p_value: float
    settings: dict[str, Any]
    paired: tuple[float, float, float, float]
    unpaired: tuple[float, float, float, float]


def compare(first: Run, second: Run, verdict: str = "global", level: float = 0.95) -> Comparison:
    """Hold two rules against each other, lane by lane.

    What the two intervals cover is told at `paired_difference` and `unpaired_difference`.

    Args:
        first: a run.
        second: another of the same problem, from the same starts.
        verdict: which one to compare.
        level: of the intervals.

    Raises:
        ValueError: where anything but the rule differs: problems, starts, steps, losses, thresholds. Rules that run in
            different coordinates are compared by giving `simulate` the same W_0 and coordinates.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> how = dict(key=jax.random.key(1), lanes=64, steps=500)
        >>> law = jaxsim.init.Gaussian(1.0)
        >>> ngd = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), law, **how)
        >>> polyak = jaxsim.simulate(problem, jaxsim.rules.Polyak(), law, **how)
        >>> int(jaxsim.basins.compare(ngd, polyak).table.sum())
        64
    """
    import scipy.stats  # slow to import

    one_of("verdict", verdict, VERDICTS)
    if first.problem.fingerprint() != second.problem.fingerprint():
        raise ValueError("second: expected a run of the same problem; got another problem")
    for name in ("steps", "loss", "train"):
        if first.settings[name] != second.settings[name]:
            raise ValueError(f"second: expected the {name} of the first run, {first.settings[name]}; got "
                             f"{second.settings[name]}")  # fmt: skip
    if first.thresholds != second.thresholds:
        raise ValueError(f"second: expected the thresholds of the first run; got {second.thresholds}")
    if first.start.shape != second.start.shape or not np.array_equal(first.start, second.start):
        raise ValueError("second: expected the same starts: key, law, lanes, coordinates and dtype; got others")
    table = np.zeros((len(VERDICTS), len(VERDICTS)), np.int64)
    np.add.at(table, (codes(first.verdict), codes(second.verdict)), 1)
    x, y = first.verdict == verdict, second.verdict == verdict
    b, c = np.flatnonzero(x & ~y), np.flatnonzero(y & ~x)
    n = len(x)
    p = scipy.stats.binomtest(len(b), len(b) + len(c), 0.5).pvalue if len(b) + len(c) else 1.0
    paired = paired_difference(len(b), len(c), n, level)
    unpaired = unpaired_difference(int(x.sum()), n, int(y.sum()), n, level)
    return Comparison(
        verdict, (first.settings["rule"], second.settings["rule"]), table, b, c, float(p),
        _shared(first, second),
        dataclasses.astuple(paired), dataclasses.astuple(unpaired),
    )  # fmt: skip


def _shared(first: Run, second: Run) -> dict[str, Any]:
    same = {k: v for k, v in first.settings.items() if k not in (*STARTS, "seconds") and second.settings.get(k) == v}
    return same | {"problem": first.problem.fingerprint(), "labels": [first.label, second.label]}


def paired_difference(only_first: int, only_second: int, n: int, level: float = 0.95) -> Difference:
    """(b - c)/n for n pairs with b and c discordant ones, with the interval of `paired_bounds`.

    Example:
        >>> d = paired_difference(30, 10, 100)
        >>> round(d.value, 2), round(d.low, 3), round(d.high, 3)
        (0.2, 0.071, 0.322)
    """
    whole_number("n", n)
    low, high = paired_bounds(only_first, only_second, n, level)
    return Difference((only_first - only_second) / n, float(low), float(high), level)


def paired_bounds(only_first: Any, only_second: Any, n: Any, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of an interval of p - q, the chances of the two kinds of discordant pairs; for arrays.

    Of n pairs b are discordant one way and c the other. The exact intervals [l, u] of both proportions are combined by
    squares and the correlation of b and c:

        low = b/n - c/n - √(x² + y² - 2ρxy),  x = b/n - l_b,  y = u_c - c/n,
        ρ = -√(PQ / ((1 - P)(1 - Q))),  P = (b + 1)/(n + 2),  Q = (c + 1)/(n + 2),

    and high likewise. At the level 0.95 it covers at least 95.0% wherever that was enumerated: n from 1 to 100,000, p
    and q from 0 to 1/2 and along p + q = 1, and expected counts from 0 to 30 of either (the tests hold it). With few
    discordant pairs it covers up to 100%.

    Reference:
        Newcombe, Statistics in Medicine 17, 2635 (1998), method 10, combines score intervals so, which falls to 80% for
        few pairs; exact intervals and ρ of shrunk proportions are a convention of this project.
    """
    b, c, n = (np.asarray(v, float) for v in (only_first, only_second, n))
    P, Q = (b + 1) / (n + 2), (c + 1) / (n + 2)
    return _combined((b, n), (c, n), np.sqrt(P * Q / ((1 - P) * (1 - Q))), 0.0, level)


def unpaired_difference(x: int, n: int, y: int, m: int, level: float = 0.95) -> Difference:
    """x/n - y/m of independent samples, with an interval.

    The exact intervals of both, combined by squares, and 1/4 of a lane of the larger sample more on either side. At the
    level 0.95 it covers at least 96% wherever that was enumerated: n and m from 1 to 80, all p and q (the tests
    hold it).

    Example:
        >>> d = unpaired_difference(60, 100, 40, 100)
        >>> round(d.value, 2), round(d.low, 3), round(d.high, 3)
        (0.2, 0.052, 0.339)
    """
    whole_number("n", n)
    whole_number("m", m)
    low, high = _combined((x, n), (y, m), 0.0, 0.25 / max(n, m), level)
    return Difference(x / n - y / m, float(low), float(high), level)


def _combined(
    first: tuple[Any, Any], second: tuple[Any, Any], against: Any, more: float, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """An interval of p - q from those of p and q, estimates with the correlation -`against`, `more` on either side."""
    (low, high), (least, most) = exact_bounds(*first, level), exact_bounds(*second, level)
    p, q = (np.asarray(count, float) / np.asarray(total, float) for count, total in (first, second))

    def reach(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.sqrt(x * x + y * y + 2 * against * x * y) + more

    return np.maximum(-1.0, p - q - reach(p - low, most - q)), np.minimum(1.0, p - q + reach(high - p, q - least))


def disagreement(first: BasinMap, second: BasinMap, selections: bool = False) -> Bool[np.ndarray, "ny nx"]:
    """The pixels of two maps of one plane whose verdicts differ; with `selections`, also those that end elsewhere.

    Raises:
        ValueError: where the maps show different problems, planes or pixels.
    """
    same = (
        first.problem.fingerprint() == second.problem.fingerprint()
        and np.array_equal(first.axes, second.axes)
        and np.array_equal(first.origin, second.origin)
        and np.array_equal(first.a, second.a)
        and np.array_equal(first.b, second.b)
    )
    if not same:
        raise ValueError("second: expected a map of the same problem, plane, window and resolution; got another")
    apart = first.verdict != second.verdict
    if selections:
        ends = [found.selections[found.selection_number] for found in (first, second)]
        apart |= (ends[0] != ends[1]).any(2)
    return apart
