"""Fractions by shell and by angle, and fractions under other initialisation laws from lanes that were run already."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxsim._check import one_of, positive_number, whole_number
from jaxsim.analysis import VERDICTS, Proportion, wilson
from jaxsim.init import Sphere
from jaxsim.margin import max_margin
from jaxsim.model import Loss
from jaxsim.problem import Problem
from jaxsim.results import Run
from jaxsim.results.saved import Saved
from jaxsim.rules import Rule
from jaxsim.simulation import survey

LEAST = 30  # lanes in a class of angles


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Shells(Saved):
    """What `shells` returns. R radii, U selections.

    Attributes:
        problem: the data.
        settings: how the lanes were made.
        radii: ‖W_0‖, (R,).
        counts: lanes by radius, selection and verdict, (R, U, 6), verdicts in the order of `jaxsim.analysis.VERDICTS`.
        selections: (U, n).
    """

    kind: ClassVar[str] = "shells"

    problem: Problem
    settings: dict[str, Any]
    radii: Float[np.ndarray, " R"]
    counts: Int[np.ndarray, "R U 6"]
    selections: Int[np.ndarray, "U n"]

    def fractions(self, verdict: str = "global", level: float = 0.95) -> list[Proportion]:
        """P(verdict | ‖W_0‖ = R) at every radius, with Wilson intervals.

        Raises:
            ValueError: for an unknown verdict.
        """
        one_of("verdict", verdict, VERDICTS)
        by_verdict, totals = self.counts.sum(1)[:, VERDICTS.index(verdict)], self.counts.sum((1, 2))
        return [wilson(int(c), int(n), level) for c, n in zip(by_verdict, totals, strict=True)]

    def by_selection(self, number: int, level: float = 0.95) -> list[Proportion]:
        """P(ends global or local at selection `number` | ‖W_0‖ = R) at every radius.

        Raises:
            ValueError: where there is no such selection.
        """
        if not 0 <= number < len(self.selections):
            raise ValueError(f"number: expected 0 to {len(self.selections) - 1}; got {number}")
        settled, totals = self.counts[:, number, :2].sum(1), self.counts.sum((1, 2))
        return [wilson(int(c), int(n), level) for c, n in zip(settled, totals, strict=True)]


def shells(
    problem: Problem,
    rule: Rule,
    radii: Iterable[float],
    *,
    key: jax.Array,
    lanes: int,
    steps: int = 2000,
    loss: Literal["logistic", "exponential", "linear", "negative-log"] | Loss = "logistic",
    dtype: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Shells:
    """P(verdict | ‖W_0‖ = R) for starts uniform on spheres of the whole d × d space.

    Lane i starts in the same direction at every radius and under every rule with the same key, so curves are smooth
    and differences sharp.

    Args:
        problem: the data.
        rule: a step-size rule.
        radii: Frobenius norms above 0.
        key: the JAX key.
        lanes: per radius.
        steps: the horizon.
        loss: ℓ.
        dtype: float32 or float64.
        progress: called as progress(lanes done, lanes of all radii) after each chunk.

    Returns:
        A `Shells`.

    Raises:
        ValueError: for a radius that is not above 0, and as `simulate`.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> found = jaxsim.basins.shells(
        ...     problem, jaxsim.rules.NGD(0.1), [1, 10], key=jax.random.key(1), lanes=100, steps=500
        ... )
        >>> [p.total for p in found.fractions("global")]
        [100, 100]
    """
    if not isinstance(radii, Iterable):
        raise ValueError(f"radii: expected several numbers; got {radii!r}")
    sizes = np.array([positive_number("radii", r) for r in radii])
    lanes = whole_number("lanes", lanes)
    if len(sizes) == 0:
        raise ValueError("radii: expected at least one; got none")
    number: dict[tuple[int, ...], int] = {}
    tables: list[dict[int, np.ndarray]] = []
    settings: dict[str, Any] = {}
    for k, radius in enumerate(sizes):
        done = k * lanes
        found = survey(
            problem, rule, Sphere(float(radius)), key=key, lanes=lanes, steps=steps, loss=loss, dtype=dtype,
            record=[steps], limits="saturated",
            progress=None if progress is None else lambda now, _, done=done: progress(done + now, len(sizes) * lanes),
        )  # fmt: skip
        numbers = [number.setdefault(tuple(alpha), len(number)) for alpha in found.selections.tolist()]
        tables.append(dict(zip(numbers, found.counts, strict=True)))
        settings = found.settings
    counts = np.zeros((len(sizes), len(number), len(VERDICTS)), np.int64)
    for row, table in zip(counts, tables, strict=True):
        for k, values in table.items():
            row[k] = values
    settings = {k: v for k, v in settings.items() if k not in ("init", "seconds")}
    return Shells(problem, settings, sizes, counts, np.array(list(number)))


def angles(run: Run) -> Float[np.ndarray, " lanes"]:
    """The angle between each lane's W_0 and W_mm, in degrees; NaN where W_0 = 0 or W_mm does not exist."""
    mm = max_margin(run.problem)
    if not np.isfinite(mm.norm):
        return np.full(run.lanes, np.nan)
    unit = run.frame.combine(mm.coeffs[None])[0] / mm.norm
    with np.errstate(invalid="ignore"):
        cosine = (run.start * unit).sum(1) / np.sqrt((run.start**2).sum(1) + run.outside)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def by_angle(
    run: Run, edges: Sequence[float] | int = 10, verdict: str = "global", level: float = 0.95
) -> list[tuple[tuple[float, float], Proportion]]:
    """P(verdict) by the angle of W_0 to W_mm.

    Args:
        run: any run with random or given starts.
        edges: ascending angles in degrees that bound the classes; or a number of classes with equally many lanes.
        verdict: which one.
        level: of the Wilson intervals.

    Returns:
        For every class its two bounds in degrees and the proportion. The last class includes its upper bound; lanes
        outside given edges are in no class.

    Raises:
        ValueError: where a class has fewer than 30 lanes (the message says how many lanes are needed).
    """
    one_of("verdict", verdict, VERDICTS)
    theta = angles(run)
    known = np.isfinite(theta)
    if np.ndim(edges) == 0:
        edges = whole_number("edges", edges)
        if known.sum() < LEAST * edges:
            raise ValueError(f"edges: {edges} classes need at least {LEAST * edges} lanes; the run has {known.sum()}")
        bounds = np.quantile(theta[known], np.linspace(0, 1, edges + 1))
    else:
        bounds = np.asarray(edges, float)
        if len(bounds) < 2 or not (np.diff(bounds) > 0).all():
            raise ValueError(f"edges: expected ascending angles, at least two; got {edges}")
    table = []
    hit = run.verdict == verdict
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        inside = known & (theta >= low) & ((theta < high) | (high == bounds[-1]) & (theta == high))
        if inside.sum() < LEAST:
            share = inside.mean()
            wanted = f"about {int(np.ceil(LEAST / share)):,} lanes" if share else "wider classes"
            raise ValueError(
                f"edges: from {low:g}° to {high:g}° are {inside.sum()} lanes, expected at least {LEAST}; use {wanted}"
            )
        table.append(((float(low), float(high)), wilson(int(hit[inside].sum()), int(inside.sum()), level)))
    return table
