"""Rule against rule on the same initialisations: contingency tables, paired tests, and where they disagree."""

import dataclasses
from typing import ClassVar

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from jaxsim.analysis import VERDICTS
from jaxsim.analysis.verdict import codes
from jaxsim.basins.maps import BasinMap
from jaxsim.basins.saved import Saved
from jaxsim.results import Run


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
        ValueError: where problems or starts differ, or the verdict is unknown.

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
    if verdict not in VERDICTS:
        raise ValueError(f"verdict: expected one of {', '.join(VERDICTS)}; got {verdict!r}")
    if first.problem.fingerprint() != second.problem.fingerprint():
        raise ValueError("second: expected a run of the same problem; got another problem")
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
        dataclasses.astuple(paired), dataclasses.astuple(unpaired),
    )  # fmt: skip


def paired_difference(only_first: int, only_second: int, n: int, level: float = 0.95) -> Difference:
    """(b - c)/n for n pairs with b and c discordant ones, with an interval.

    Wald's after adding 1/2 to each cell of the table.

    Example:
        >>> d = paired_difference(30, 10, 100)
        >>> round(d.value, 2), round(d.low, 3), round(d.high, 3)
        (0.2, 0.077, 0.315)
    """
    z = float(scipy.stats.norm.ppf(0.5 + level / 2))
    b, c, N = only_first + 0.5, only_second + 0.5, n + 2.0
    middle = (b - c) / N
    half = z * np.sqrt((b + c) / N - middle**2) / np.sqrt(N)
    return Difference((only_first - only_second) / n, float(middle - half), float(middle + half), level)


def unpaired_difference(x: int, n: int, y: int, m: int, level: float = 0.95) -> Difference:
    """x/n - y/m of independent samples, with an interval: Wald's after adding one success and one failure to each.

    Example:
        >>> d = unpaired_difference(60, 100, 40, 100)
        >>> round(d.value, 2), round(d.low, 3), round(d.high, 3)
        (0.2, 0.061, 0.331)
    """
    z = float(scipy.stats.norm.ppf(0.5 + level / 2))
    p, q = (x + 1) / (n + 2), (y + 1) / (m + 2)
    half = z * np.sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))
    return Difference(x / n - y / m, float(p - q - half), float(p - q + half), level)


def disagreement(first: BasinMap, second: BasinMap) -> Bool[np.ndarray, "ny nx"]:
    """The pixels of two maps of one plane whose verdicts differ.

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
    return first.verdict != second.verdict


@dataclasses.dataclass(frozen=True, eq=False)
class Jumps:
    """Lanes that left a selection on which they had saturated.

    Attributes:
        lane: one row per jump, (J,).
        left: the last recorded step at which the lane was saturated there, (J,).
        before, after: the selection left, and that of the next recorded saturated step, (J, n).
        was_local: whether the selection left is feasible and locally optimal, (J,).
        angle: of the lane's W_0 to W_mm in degrees, (J,), and `start_norm`, ‖W_0‖: where in initialisation space.
    """

    lane: Int[np.ndarray, " J"]
    left: Int[np.ndarray, " J"]
    before: Int[np.ndarray, "J n"]
    after: Int[np.ndarray, "J n"]
    was_local: Bool[np.ndarray, " J"]
    angle: Float[np.ndarray, " J"]
    start_norm: Float[np.ndarray, " J"]


def jumps(run: Run) -> Jumps:
    """Find the lanes that left one selection for another after attention had saturated, and where they had started.

    Where attention settles on a worse choice, L - L* stays positive while ‖∇L‖ vanishes, and Polyak's step grows until
    it is cut to its bound. Only recorded steps are seen, so a denser `record` finds more jumps.

    Args:
        run: simulated with keep=("logits",).

    Raises:
        ValueError: where the logits were not kept.
    """
    from jaxsim.basins.shells import angles
    from jaxsim.margin import MarginSolver

    if run.logits is None:
        raise ValueError('run: expected one simulated with keep=("logits",); its logits were not kept')
    logits = np.where(run.problem.visible & ~np.isnan(run.logits), run.logits, -np.inf)
    selection = logits.argmax(3)  # (lanes, R, n)
    rows = []
    for lane in np.flatnonzero(run.saturated.sum(1) > 1):
        seen = np.flatnonzero(run.saturated[lane])
        path = selection[lane, seen]
        for k in np.flatnonzero((path[1:] != path[:-1]).any(1)):
            rows.append((lane, run.steps[seen[k]], path[k], path[k + 1]))
    n = run.selections.shape[1]
    before = np.array([row[2] for row in rows]).reshape(-1, n)
    distinct, inverse = np.unique(before, axis=0, return_inverse=True)
    solved = MarginSolver(run.problem).solve_many(distinct) if len(distinct) else []
    local = np.array([mm.locally_optimal for mm in solved], bool)[inverse.ravel()] if rows else np.zeros(0, bool)
    lane = np.array([row[0] for row in rows], int)
    return Jumps(
        lane,
        np.array([row[1] for row in rows], int),
        before,
        np.array([row[3] for row in rows]).reshape(-1, n),
        local,
        angles(run)[lane],
        np.sqrt((run.start**2).sum(1) + run.outside)[lane],
    )
