"""Rule against rule on the same initialisations: contingency tables, paired tests, and where they disagree."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
import scipy.stats
from jaxtyping import Bool, Int

from jaxsim._check import one_of, open_share, whole_number
from jaxsim.analysis import VERDICTS
from jaxsim.analysis.verdict import codes
from jaxsim.basins.maps import BasinMap
from jaxsim.basins.saved import Saved
from jaxsim.results import STARTS, Run


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference of two proportions, first minus second, with an interval."""

    value: float
    low: float
    high: float
    level: float


@dataclasses.dataclass(frozen=True, eq=False)
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

    The paired interval is Wald's after adding 1/2 to each of the four cells of the 2 × 2 table, the unpaired one
    Wald's after adding one success and one failure to each sample (adjustments named after Agresti, Min and Caffo;
    their coverage is tested in this project).

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
    return same | {"problem": first.problem.fingerprint()}


def paired_difference(only_first: int, only_second: int, n: int, level: float = 0.95) -> Difference:
    """(b - c)/n for n pairs with b and c discordant ones, with an interval.

    Wald's after adding 1/2 to each cell of the table.

    Example:
        >>> d = paired_difference(30, 10, 100)
        >>> round(d.value, 2), round(d.low, 3), round(d.high, 3)
        (0.2, 0.079, 0.313)
    """
    whole_number("n", n)
    z = float(scipy.stats.norm.ppf(0.5 + open_share("level", level) / 2))
    b, c, N = only_first + 0.5, only_second + 0.5, n + 2.0
    middle = (b - c) / N
    half = z * np.sqrt((b + c) / N - middle**2) / np.sqrt(N)
    return _difference((only_first - only_second) / n, middle, half, level)


def unpaired_difference(x: int, n: int, y: int, m: int, level: float = 0.95) -> Difference:
    """x/n - y/m of independent samples, with an interval: Wald's after adding one success and one failure to each.

    Example:
        >>> d = unpaired_difference(60, 100, 40, 100)
        >>> round(d.value, 2), round(d.low, 3), round(d.high, 3)
        (0.2, 0.062, 0.331)
    """
    whole_number("n", n)
    whole_number("m", m)
    z = float(scipy.stats.norm.ppf(0.5 + open_share("level", level) / 2))
    p, q = (x + 1) / (n + 2), (y + 1) / (m + 2)
    half = z * np.sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))
    return _difference(x / n - y / m, p - q, half, level)


def _difference(value: float, middle: float, half: float, level: float) -> Difference:
    return Difference(value, max(-1.0, float(middle - half)), min(1.0, float(middle + half)), level)


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
