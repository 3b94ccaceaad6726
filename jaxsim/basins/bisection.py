"""Search on segments and around points, for any question about points. No simulation here."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped

RADII = 10  # doubling steps outwards
PROBES = 4  # per dimension of the span, for the normal of a border
PROBE_RADIUS = 0.05  # of the displacement
MEMORY = 0.5  # weight of the rounds before in the estimate of the normal
SLIDES = (1.0, 0.5, 0.25, 0.1)  # of the way to the foot of the perpendicular
SHRINK = (0.6, 0.8, 0.9, 0.97, 0.99)  # of the displacement, tried in each direction

Side = Callable[[Float[np.ndarray, "k size"]], Bool[np.ndarray, " k"]]
Label = Callable[[Float[np.ndarray, "k size"]], Shaped[np.ndarray, " k"]]  # equal on one side of a border


def bisect(
    side: Side, inside: Float[np.ndarray, "k size"], outside: Float[np.ndarray, "k size"], gap: float | np.ndarray
) -> tuple[Float[np.ndarray, "k size"], Float[np.ndarray, "k size"]]:
    """Shrink segments from `inside` (side True) to `outside` (False) until the ends are at most `gap` apart.

    `gap` is one number for all segments or one for each.

    Each segment keeps an end on either side, so it crosses the border. Midpoints are halves of the current ends; the
    search ends early for a segment whose midpoint is one of its ends, as close as numbers get.
    """
    a, b = inside.copy(), outside.copy()
    while True:
        middle = a + (b - a) / 2
        wide = np.linalg.norm(b - a, axis=1) > gap
        todo = np.flatnonzero(wide & (middle != a).any(1) & (middle != b).any(1))
        if len(todo) == 0:
            return a, b
        # All segments are asked every time: a batch of one size is one compiled program.
        yes = side(middle)
        a[todo] = np.where(yes[todo, None], middle[todo], a[todo])
        b[todo] = np.where(yes[todo, None], b[todo], middle[todo])


def nearest_crossing(
    label: Label,
    centre: Float[np.ndarray, "k size"],
    span: Float[np.ndarray, "r size"],
    rngs: Sequence[np.random.Generator],
    reach: float,
    tolerance: float,
    directions: int = 32,
    rounds: int = 10,
) -> Float[np.ndarray, "k size"]:
    """Short displacements δ, one per centre, with label(centre + δ) ≠ label(centre); NaN where none was found.

    First, random unit directions in the span are followed outwards in doubling steps up to `reach`, and the earliest
    crossing is bisected. Then each round estimates the border's normal at the crossing from the labels of probes around
    it, slides the crossing along the border towards the foot of the perpendicular from the centre, and bisects again; a
    round that does not shorten δ leaves it as it was. Every centre draws from its own generator.
    """
    k, size = centre.shape
    own = label(centre)

    def crosses(delta: Float[np.ndarray, "m k size"]) -> Bool[np.ndarray, "m k"]:
        return label((centre + delta).reshape(-1, size)).reshape(-1, k) != own

    def pull_in(delta: Float[np.ndarray, "k size"], hit: Bool[np.ndarray, " k"]) -> Float[np.ndarray, "k size"]:
        end = centre + np.where(hit[:, None], delta, 0.0)
        return bisect(lambda x: label(x) != own, end, centre, tolerance)[0] - centre

    units = _unit_vectors(rngs, directions, span)
    out = np.full((directions, k), np.inf)
    for radius in reach / 2.0 ** np.arange(RADII)[::-1]:
        out = np.where(np.isinf(out) & crosses(radius * units), radius, out)
    first, rows = out.argmin(0), np.arange(k)
    found = np.isfinite(out[first, rows])
    best = pull_in(np.where(found, out[first, rows], 0.0)[:, None] * units[first, rows], found)
    normal = np.zeros((k, size))
    for _ in range(rounds):
        length = np.linalg.norm(best, axis=1)[:, None]
        probes = _unit_vectors(rngs, PROBES * len(span), span)
        sign = np.where(crosses(best + PROBE_RADIUS * length * probes), 1.0, -1.0)
        normal = MEMORY * normal + (sign[:, :, None] * probes).sum(0) / len(probes)
        flat = normal / np.linalg.norm(normal, axis=1, keepdims=True)
        foot = np.sum(best * flat, 1, keepdims=True) * flat
        toward = best + np.array(SLIDES)[:, None, None] * (foot - best)
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = np.nan_to_num(toward / np.linalg.norm(toward, axis=2, keepdims=True))
        trials = (length * np.array(SHRINK)[:, None, None, None] * unit).reshape(-1, k, size)
        hit = crosses(trials) & found
        some = np.logical_or.reduce(hit, axis=0)
        shortest = np.where(hit, np.linalg.norm(trials, axis=2), np.inf).argmin(0)
        best = np.where(some[:, None], pull_in(trials[shortest, rows], some), best)
    best[~found] = np.nan
    return best


def _unit_vectors(rngs: Sequence[np.random.Generator], count: int, span: np.ndarray) -> np.ndarray:
    """Random directions, (count, k, size), each centre from its own generator."""
    # One centre at a time: a product of matrices rounds differently for another number of rows.
    unit = np.stack([rng.standard_normal((count, len(span))) @ span for rng in rngs], axis=1)
    return unit / np.linalg.norm(unit, axis=2, keepdims=True)
