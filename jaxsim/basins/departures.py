"""Jumps: lanes that leave a selection on which attention had saturated."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.basins.spheres import angles
from jaxsim.margin import MarginSolver
from jaxsim.results import Run
from jaxsim.results.saved import Saved


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Jumps(Saved):
    """Lanes that left a selection on which they had saturated.

    Attributes:
        lane: one row per jump, (J,).
        left: the last recorded step at which the lane was saturated there, (J,).
        before, after: the selection left, and that of the next recorded saturated step, (J, n).
        was_local: whether the selection left is feasible and locally optimal, (J,).
        angle: of the lane's W_0 to W_mm in degrees, (J,), and `start_norm`, ‖W_0‖: where in initialisation space.
    """

    kind: ClassVar[str] = "jumps"

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
    before = np.array([row[2] for row in rows], int).reshape(-1, n)
    distinct, inverse = np.unique(before, axis=0, return_inverse=True)
    solved = MarginSolver(run.problem).solve_many(distinct)
    local = np.array([mm.locally_optimal for mm in solved], bool)[inverse.ravel()] if rows else np.zeros(0, bool)
    lane = np.array([row[0] for row in rows], int)
    return Jumps(
        lane,
        np.array([row[1] for row in rows], int),
        before,
        np.array([row[3] for row in rows], int).reshape(-1, n),
        local,
        angles(run)[lane],
        np.sqrt((run.start**2).sum(1) + run.outside)[lane],
    )
