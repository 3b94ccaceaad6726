"""Continuation: how fractions, attractors and their stability move along a parameter, or several along a curve."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim._check import finite_number, one_of, step_number, whole_number
from jaxsim.analysis import VERDICTS, Proportion, wilson
from jaxsim.analysis.verdict import codes, is_settled
from jaxsim.basins.comparison import Difference, paired_difference
from jaxsim.basins.stability import QUANTIFIERS, Quantifier, ends_of, quantify
from jaxsim.init import Law
from jaxsim.margin import MarginSolver
from jaxsim.model import Loss
from jaxsim.problem import Problem
from jaxsim.results.saved import Saved
from jaxsim.rules import Rule, check_rule
from jaxsim.simulation import simulate

Point = tuple[Problem, Rule, Law]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Continuation(Saved):
    """What `continuation` returns. V values of the parameter, A attractors: the selections that lanes settled on.

    Along a curve through several parameters a value is a point, and V the number of points.

    Attributes:
        settings: how the lanes were made; `at` holds rule, law and the problem's fingerprint at every value.
        name: of the parameter; of several with commas between.
        values: of the parameter, (V,); of several, (V, parameters).
        lanes: per value.
        verdicts: lanes by value and verdict, (V, 6).
        attractors: selections that lanes settled on, (A, n), -1 beyond the sequences of a smaller problem; in
            descending order of their lanes over all values.
        counts: lanes settled on each, as global or local, (V, A).
        norms: ‖W^α‖ of each, (V, A); inf where infeasible, NaN where the problem has no such selection.
        exists: whether each is feasible and locally optimal at the value, (V, A).
        is_global: whether each is the optimal selection at the value, (V, A).
        changes: for neighbouring values the lanes that turn global and that stop being global, (V - 1, 2).
        ends: the number of the attractor that each lane settled on, (V, lanes); -1 where on none. This and what follows
            are None in what was saved before they were kept.
        settled: the first recorded step from which attention stays saturated, (V, lanes); -1 where it does not.
        distance: of W_0 from the ray {s W^α: s ≥ 0} of the lane's attractor, (V, lanes); NaN where it has none.
        nearest: the distance of the nearest start that settled on another attractor, (V, A); inf where there is none,
            NaN where no lane settled on this one.
    """

    kind: ClassVar[str] = "continuation"

    settings: dict[str, Any]
    name: str
    values: Float[np.ndarray, "V ..."]
    lanes: int
    verdicts: Int[np.ndarray, "V 6"]
    attractors: Int[np.ndarray, "A n"]
    counts: Int[np.ndarray, "V A"]
    norms: Float[np.ndarray, "V A"]
    exists: Bool[np.ndarray, "V A"]
    is_global: Bool[np.ndarray, "V A"]
    changes: Int[np.ndarray, "V1 2"]
    ends: Int[np.ndarray, "V lanes"] | None = None
    settled: Int[np.ndarray, "V lanes"] | Float[np.ndarray, "V lanes"] | None = None
    distance: Float[np.ndarray, "V lanes"] | None = None
    nearest: Float[np.ndarray, "V A"] | None = None

    def fractions(self, verdict: str = "global", level: float = 0.95) -> list[Proportion]:
        """The fraction of lanes with a verdict at every value, with Wilson intervals."""
        one_of("verdict", verdict, VERDICTS)
        return [wilson(int(row[VERDICTS.index(verdict)]), self.lanes, level) for row in self.verdicts]

    def steps_between(self, level: float = 0.95) -> list[Difference]:
        """The change of the global fraction from each value to the next, with intervals that use the same lanes."""
        return [paired_difference(int(gained), int(lost), self.lanes, level) for gained, lost in self.changes]

    def quantifier(self, name: str, *, steps: float | None = None, level: float = 0.95) -> Quantifier:
        """One quantifier of the stability of every attractor at every value, with intervals.

        Args:
            name: "basin stability": the fraction of starts that settle on it; "finite-time basin stability": the
                fraction that have settled on it by step `steps`; "convergence time": the median step from which their
                attention stays saturated; "convergence pace": the median of that step over the distance of W_0 from
                the ray {s W^α: s ≥ 0}, to which W goes; "critical shock": the distance from that ray of the nearest
                start that settles on another attractor.
            steps: of "finite-time basin stability".
            level: of the intervals: Wilson's of fractions; those of medians are two of the values, whatever their
                distribution, the lower one at the recorded step before; of the critical shock from 0 to what was found,
                because a nearer start may only not have been drawn: at this level at most a share
                1 - (1 - level)^(1/lanes) of all starts is such a one.

        Raises:
            ValueError: for an unknown name, or where the lanes' ends were not kept.

        Reference:
            The quantities of that name in Attractors.jl (its StabilityQuantifiersAccumulator), with the ray in the
            place of a bounded attractor (convention of this project).
        """
        one_of("name", name, tuple(QUANTIFIERS))
        if self.ends is None or self.settled is None or self.distance is None or self.nearest is None:
            raise ValueError(
                "name: expected a continuation whose lanes' ends were kept; this was saved before they were"
            )
        by = None if steps is None else step_number("steps", steps, at_most=int(self.settings["steps"]))
        if (by is None) == (name == "finite-time basin stability"):
            needed = "expected a step" if by is None else f"expected none for {name!r}"
            raise ValueError(f"steps: {needed}; got {steps!r}")
        recorded = np.array(self.settings["recorded"])
        return quantify(name, self.ends, self.settled, self.distance, self.nearest, recorded, by, level)

    @property
    def events(self) -> list[tuple[Any, int, str]]:
        """(value, attractor, "appears" or "vanishes") where an attractor exists at one value of two neighbours only."""
        change = np.diff(self.exists.astype(int), axis=0)
        values = [tuple(value) if np.ndim(self.values) > 1 else value for value in self.values.tolist()]
        return [
            (values[v + 1], int(a), "appears" if change[v, a] > 0 else "vanishes") for v, a in np.argwhere(change != 0)
        ]

    @property
    def along(self) -> Float[np.ndarray, " V"]:
        """Where the values lie on an axis: themselves, or their places along a curve, counted from 0."""
        return self.values if self.values.ndim == 1 else np.arange(float(len(self.values)))


def continuation(
    at: Callable[..., Point],
    values: Iterable[Any],
    *,
    key: jax.Array,
    lanes: int,
    name: str | Sequence[str] = "parameter",
    steps: int = 2000,
    record: Sequence[int] | None = None,
    loss: Literal["logistic", "exponential", "linear", "negative-log"] | Loss = "logistic",
    dtype: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Continuation:
    """Follow basin fractions and attractors along a parameter, with the same random numbers at every value.

    All values run in dual coordinates where the rule allows it: there W_0 is a continuous function of the data and the
    draws. Between problems of other n, T or d the draws still agree, but the starts are different ones.

    Attractors are matched from value to value by their selection: the tokens that they pick. How stable each is, in
    five ways, is kept on the way: `Continuation.quantifier`.

    Args:
        at: gives the problem, the rule and the initialisation law at a value of the parameter: a step size, a signal
            strength, d, n, label noise (`flip_labels`), a mixture of two data sets (`between`), or anything else.
            Along a curve through several parameters it takes as many.
        values: of the parameter, in the order to follow; or points, as many numbers each.
        key: the JAX key of the starts, the same at every value: lane i draws the same coordinates.
        lanes: per value.
        name: of the parameter, for figures; of several, one each.
        steps: the horizon.
        record: the steps at which attention is looked at, from which convergence times are read; by default about ten
            per decade.
        loss: ℓ.
        dtype: float32 or float64.
        progress: called as progress(values done, values).

    Returns:
        A `Continuation`.

    Raises:
        ValueError: for fewer than two values, and as `simulate`.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> found = jaxsim.basins.continuation(
        ...     lambda eta: (problem, jaxsim.rules.NGD(eta), jaxsim.init.Gaussian(1.0)),
        ...     [0.1, 0.2], name="step size", key=jax.random.key(1), lanes=64, steps=500,
        ... )
        >>> found.verdicts.sum(1).tolist()
        [64, 64]
        >>> time = found.quantifier("convergence time")
        >>> bool(time.value[1, 0] < time.value[0, 0])  # longer steps settle sooner
        True
    """
    given = list(values)
    points = _points(given)
    called = name if isinstance(name, str) else ", ".join(name)
    lanes, steps = whole_number("lanes", lanes), step_number("steps", steps)
    if len(points) < 2:
        raise ValueError(f"values: expected at least two; got {len(points)}")
    problems: list[Problem] = []
    settled: list[dict[tuple[int, ...], int]] = []
    verdicts, is_global, lanes_ends = [], [], []
    settings: dict[str, Any] = {}
    for k, value in enumerate(given):
        problem, rule, law = at(*value) if np.ndim(value) else at(value)
        check_rule(rule)
        run = simulate(
            problem,
            rule,
            law,
            key=key,
            lanes=lanes,
            steps=steps,
            loss=loss,
            dtype=dtype,
            record=record,
            limits="saturated",
            coordinates=rule.coordinates or "dual",  # type: ignore[arg-type]
        )
        code = codes(run.verdict)
        problems.append(problem)
        verdicts.append(np.bincount(code, minlength=len(VERDICTS)))
        is_global.append(code == VERDICTS.index("global"))
        number, count = np.unique(run.selection_number[is_settled(code)], return_counts=True)
        settled.append({tuple(run.selections[i].tolist()): int(c) for i, c in zip(number, count, strict=True)})
        lanes_ends.append(ends_of(run))
        here = {name: run.settings[name] for name in ("rule", "init", "loss", "dtype", "coordinates")}
        kept = settings.get("at", []) + [here | {"problem": problem.fingerprint()}]
        settings = {"key": run.settings["key"], "steps": steps, "recorded": run.steps.tolist(), "at": kept}
        if progress is not None:
            progress(k + 1, len(points))
    found = _by_lanes(settled)
    norms, exists, optimal = (np.stack(part) for part in zip(*(_existence(p, found) for p in problems), strict=True))
    longest = max((len(alpha) for alpha in found), default=0)
    before, after = np.stack(is_global[:-1]), np.stack(is_global[1:])
    place = {alpha: a for a, alpha in enumerate(found)}
    ends = np.array([[place.get(alpha, -1) for alpha in each.attractor] for each in lanes_ends], int)
    nearest = np.array([[each.nearest.get(alpha, np.nan) for alpha in found] for each in lanes_ends], float)
    return Continuation(
        settings, called, np.array(points), lanes, np.stack(verdicts),
        np.array([[*alpha, *[-1] * (longest - len(alpha))] for alpha in found], int).reshape(len(found), longest),
        np.array([[table.get(alpha, 0) for alpha in found] for table in settled], int).reshape(len(points), len(found)),
        norms, exists, optimal, np.stack([(after & ~before).sum(1), (before & ~after).sum(1)], axis=1),
        ends, np.stack([each.settled for each in lanes_ends]), np.stack([each.distance for each in lanes_ends]),
        nearest.reshape(len(points), len(found)),
    )  # fmt: skip


def _points(given: Sequence[Any]) -> list[Any]:
    """The values as numbers, or as points of as many numbers each."""
    points = [
        [finite_number(f"values[{k}][{j}]", number) for j, number in enumerate(value)]
        if np.ndim(value) else finite_number("values", value)
        for k, value in enumerate(given)
    ]  # fmt: skip
    if len({np.shape(point) for point in points}) > 1:
        raise ValueError(f"values: expected numbers, or points of as many numbers each; got {given!r}")
    return points


def _by_lanes(settled: Sequence[dict[tuple[int, ...], int]]) -> list[tuple[int, ...]]:
    totals: dict[tuple[int, ...], int] = {}
    for table in settled:
        for alpha, count in table.items():
            totals[alpha] = totals.get(alpha, 0) + count
    return sorted(totals, key=lambda alpha: (-totals[alpha], alpha))


def _existence(problem: Problem, found: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """‖W^α‖, whether α is feasible and locally optimal, and whether it is opt, for selections of another value too."""
    norms, exists = np.full(len(found), np.nan), np.zeros(len(found), bool)
    n, visible = len(problem.labels), problem.visible
    fits = [
        k for k, a in enumerate(found) if len(a) == n and max(a) < visible.shape[1] and visible[np.arange(n), a].all()
    ]
    solved = MarginSolver(problem).solve_many([np.array(found[k]) for k in fits])
    for k, mm in zip(fits, solved, strict=True):
        norms[k], exists[k] = mm.norm, mm.attracts
    opt = tuple(problem.optimal.tolist())
    return norms, exists, np.array([alpha == opt for alpha in found], bool)
