"""How stable attractors are: how much ends there, how soon, and how near starts lie that end elsewhere.

An attractor of W is no point: W goes to infinity along the ray {s W^α: s ≥ 0}. A start's distance from the attractor is
taken as its Frobenius distance from that ray (convention of this project).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Real

from jaxsim.analysis import median_bounds, wilson_bounds
from jaxsim.analysis.verdict import codes, is_settled
from jaxsim.margin import MarginSolver
from jaxsim.results import Run

Selection = tuple[int, ...]

# Names, and units for figures.
QUANTIFIERS = {
    "basin stability": "share of starts",
    "finite-time basin stability": "share of starts",
    "convergence time": "step",
    "convergence pace": "steps per ‖W‖",
    "critical shock": "‖W‖",
}


@dataclasses.dataclass(frozen=True)
class Quantifier:
    """One number for every value of a parameter and every attractor, (V, A) each; NaN where nothing is known.

    Attributes:
        name: which one; see `Continuation.quantifier`.
        value: what was found.
        low, high: its interval.
        level: of the interval.
    """

    name: str
    value: Float[np.ndarray, "V A"]
    low: Float[np.ndarray, "V A"]
    high: Float[np.ndarray, "V A"]
    level: float


@dataclasses.dataclass(frozen=True)
class Ends:
    """Where the lanes of a run ended, and how.

    Attributes:
        attractor: the selection that each lane settled on, as global or local; () where on none.
        settled: from which recorded step attention stays saturated; -1 where it does not.
        distance: of W_0 from the ray of the lane's attractor; NaN where it has none.
        nearest: for each attractor the distance of the nearest start that settled on another; inf where there is none.
    """

    attractor: list[Selection]
    settled: Real[np.ndarray, " lanes"]
    distance: Float[np.ndarray, " lanes"]
    nearest: dict[Selection, float]


def ends_of(run: Run) -> Ends:
    """Where the lanes ended; att-SVMs of the selections that they settled on give the rays."""
    settled = is_settled(codes(run.verdict))
    found = np.unique(run.selection_number[settled])
    rays = MarginSolver(run.problem).solve_many([run.selections[k] for k in found]) if len(found) else []
    distance, nearest = np.full(run.lanes, np.nan), {}
    squared = (run.start**2).sum(1) + run.outside
    for k, mm in zip(found, rays, strict=True):
        unit = run.frame.combine(mm.coeffs[None])[0] / mm.norm
        along = np.maximum(run.start @ unit, 0.0)
        apart = np.sqrt(np.maximum(((run.start - along[:, None] * unit) ** 2).sum(1) + run.outside, 0.0))
        apart = np.where(along > 0, apart, np.sqrt(squared))
        here = settled & (run.selection_number == k)
        distance[here] = apart[here]
        nearest[tuple(run.selections[k].tolist())] = float(apart[settled & ~here].min(initial=np.inf))
    attractor = [tuple(a) if yes else () for a, yes in zip(run.selection.tolist(), settled, strict=True)]
    return Ends(attractor, np.where(settled, run.settled_step, -1), distance, nearest)


def quantify(
    name: str,
    ends: Int[np.ndarray, "V lanes"],
    settled: Real[np.ndarray, "V lanes"],
    distance: Float[np.ndarray, "V lanes"],
    nearest: Float[np.ndarray, "V A"],
    recorded: Real[np.ndarray, " R"],
    steps: float | None,
    level: float,
) -> Quantifier:
    """One quantifier, from what is kept of every lane; see `Continuation.quantifier`."""
    count = nearest.shape[1]
    if name == "critical shock":
        return Quantifier(name, nearest, np.where(np.isnan(nearest), np.nan, 0.0), nearest, level)
    if name in ("basin stability", "finite-time basin stability"):
        counted = ends if steps is None else np.where(settled <= steps, ends, -1)
        hits = np.stack([(counted == a).sum(1) for a in range(count)], axis=1).reshape(len(ends), count)
        low, high = wilson_bounds(hits, ends.shape[1], level)
        return Quantifier(name, hits / ends.shape[1], low, high, level)
    over = np.ones_like(distance) if name == "convergence time" else distance
    before = np.insert(recorded, 0, 0)[np.searchsorted(recorded, settled)]  # attention became saturated since then
    value, low, high = (np.full((len(ends), count), np.nan) for _ in range(3))
    for v, a in np.ndindex(value.shape):
        here = ends[v] == a
        if here.any():
            with np.errstate(divide="ignore", invalid="ignore"):
                late, early = settled[v, here] / over[v, here], before[v, here] / over[v, here]
            value[v, a] = np.median(late)
            low[v, a], high[v, a] = median_bounds(early, level)[0], median_bounds(late, level)[1]
    return Quantifier(name, value, low, high, level)
