"""Continuation: how fractions and attractors move along a parameter."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim._check import finite_number, one_of, random_key, step_number, whole_number
from jaxsim.analysis import VERDICTS, Proportion, wilson
from jaxsim.analysis.verdict import codes, is_settled
from jaxsim.basins.comparison import Difference, paired_difference
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

    Attributes:
        settings: how the lanes were made; `at` holds rule, law and the problem's fingerprint at every value.
        name: of the parameter.
        values: of the parameter, (V,).
        lanes: per value.
        verdicts: lanes by value and verdict, (V, 6).
        attractors: selections that lanes settled on, (A, n), -1 beyond the sequences of a smaller problem; in
            descending order of their lanes over all values.
        counts: lanes settled on each, as global or local, (V, A).
        norms: ‖W^α‖ of each, (V, A); inf where infeasible, NaN where the problem has no such selection.
        exists: whether each is feasible and locally optimal at the value, (V, A).
        is_global: whether each is the optimal selection at the value, (V, A).
        changes: for neighbouring values the lanes that turn global and that stop being global, (V - 1, 2).
    """

    kind: ClassVar[str] = "continuation"

    settings: dict[str, Any]
    name: str
    values: Float[np.ndarray, " V"]
    lanes: int
    verdicts: Int[np.ndarray, "V 6"]
    attractors: Int[np.ndarray, "A n"]
    counts: Int[np.ndarray, "V A"]
    norms: Float[np.ndarray, "V A"]
    exists: Bool[np.ndarray, "V A"]
    is_global: Bool[np.ndarray, "V A"]
    changes: Int[np.ndarray, "V1 2"]

    def fractions(self, verdict: str = "global", level: float = 0.95) -> list[Proportion]:
        """The fraction of lanes with a verdict at every value, with Wilson intervals."""
        one_of("verdict", verdict, VERDICTS)
        return [wilson(int(row[VERDICTS.index(verdict)]), self.lanes, level) for row in self.verdicts]

    def steps_between(self, level: float = 0.95) -> list[Difference]:
        """The change of the global fraction from each value to the next, with intervals that use the same lanes."""
        return [paired_difference(int(gained), int(lost), self.lanes, level) for gained, lost in self.changes]

    @property
    def events(self) -> list[tuple[float, int, str]]:
        """(value, attractor, "appears" or "vanishes") where an attractor exists at one value of two neighbours only."""
        change = np.diff(self.exists.astype(int), axis=0)
        return [
            (float(self.values[v + 1]), int(a), "appears" if change[v, a] > 0 else "vanishes")
            for v, a in np.argwhere(change != 0)
        ]


def continuation(
    at: Callable[[float], Point],
    values: Iterable[float],
    *,
    key: jax.Array,
    lanes: int,
    name: str = "parameter",
    steps: int = 2000,
    loss: Literal["logistic", "exponential", "linear"] | Loss = "logistic",
    dtype: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Continuation:
    """Follow basin fractions and attractors along a parameter, with the same random numbers at every value.

    All values run in dual coordinates where the rule allows it: there W_0 is a continuous function of the data and the
    draws. Between problems of other n, T or d the draws still agree, but the starts are different ones.

    Attractors are matched from value to value by their selection: the tokens that they pick.

    Args:
        at: gives the problem, the rule and the initialisation law at a value of the parameter: a step size, a signal
            strength, d, n, label noise (`flip_labels`), a mixture of two data sets (`between`), or anything else.
        values: of the parameter, in the order to follow.
        key: the JAX key of the starts, the same at every value: lane i draws the same coordinates.
        lanes: per value.
        name: of the parameter, for figures.
        steps: the horizon.
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
    """
    given = list(values)
    points = [finite_number("values", v) for v in given]
    lanes, steps = whole_number("lanes", lanes), step_number("steps", steps)
    if len(points) < 2:
        raise ValueError(f"values: expected at least two; got {len(points)}")
    problems: list[Problem] = []
    settled: list[dict[tuple[int, ...], int]] = []
    verdicts, is_global = [], []
    settings: dict[str, Any] = {}
    for k, value in enumerate(given):
        problem, rule, law = at(value)
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
            record=[steps],
            limits="saturated",
            coordinates=rule.coordinates or "dual",  # type: ignore[arg-type]
        )
        code = codes(run.verdict)
        problems.append(problem)
        verdicts.append(np.bincount(code, minlength=len(VERDICTS)))
        is_global.append(code == VERDICTS.index("global"))
        number, count = np.unique(run.selection_number[is_settled(code)], return_counts=True)
        settled.append({tuple(run.selections[i].tolist()): int(c) for i, c in zip(number, count, strict=True)})
        here = {name: run.settings[name] for name in ("rule", "init", "loss", "dtype", "coordinates")}
        kept = settings.get("at", []) + [here | {"problem": problem.fingerprint()}]
        settings = {"key": run.settings["key"], "steps": steps, "at": kept}
        if progress is not None:
            progress(k + 1, len(points))
    found = _by_lanes(settled)
    norms, exists, optimal = (np.stack(part) for part in zip(*(_existence(p, found) for p in problems), strict=True))
    longest = max((len(alpha) for alpha in found), default=0)
    before, after = np.stack(is_global[:-1]), np.stack(is_global[1:])
    return Continuation(
        settings, name, np.array(points), lanes, np.stack(verdicts),
        np.array([[*alpha, *[-1] * (longest - len(alpha))] for alpha in found], int).reshape(len(found), longest),
        np.array([[table.get(alpha, 0) for alpha in found] for table in settled], int).reshape(len(points), len(found)),
        norms, exists, optimal, np.stack([(after & ~before).sum(1), (before & ~after).sum(1)], axis=1),
    )  # fmt: skip


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


def between(first: Problem, second: Problem, share: float) -> Problem:
    """The data set between two of one shape: tokens, queries, keys and decoder interpolated; labels must agree.

    Args:
        first: at share 0.
        second: at share 1.
        share: from 0 to 1.

    Raises:
        ValueError: where shapes, labels or masks differ.
    """
    if first.shape != second.shape or first.W_shape != second.W_shape:
        raise ValueError(f"second: expected a problem of shape {first.shape}; got {second.shape}")
    if not (np.array_equal(first.labels, second.labels) and np.array_equal(first.visible, second.visible)):
        raise ValueError("second: expected the labels and the mask of the first problem; got others")
    if (first.given_keys is None) != (second.given_keys is None):
        raise ValueError("second: expected keys if the first problem has keys, and none if it has none")
    w = _share(share)

    def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (1 - w) * a + w * b

    keys = None if first.given_keys is None else mix(first.keys, second.keys)
    queries, decoder = mix(first.queries, second.queries), mix(first.decoder, second.decoder)
    return Problem(mix(first.tokens, second.tokens), queries, first.labels, decoder, first.mask, keys)


def flip_labels(problem: Problem, share: float, key: jax.Array) -> Problem:
    """Label noise: sequence i has its label flipped where its uniform draw lies below `share`.

    With the same key the flipped sequences of a smaller share are among those of a larger one.

    Raises:
        ValueError: for a share outside 0 to 1.
    """
    share = _share(share)
    draws = np.asarray(jax.random.uniform(random_key("key", key), (len(problem.labels),)))
    labels = np.where(draws < share, -problem.labels, problem.labels)
    return Problem(problem.tokens, problem.queries, labels, problem.decoder, problem.mask, problem.given_keys)


def _share(value: Any) -> float:
    share = finite_number("share", value)
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number from 0 to 1; got {value}")
    return share
