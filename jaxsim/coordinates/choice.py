"""Which coordinates a problem is run in."""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from jaxsim import _machine
from jaxsim.coordinates.base import Frame
from jaxsim.coordinates.dual import DualFrame
from jaxsim.coordinates.full import FullFrame
from jaxsim.coordinates.primal import PrimalFrame
from jaxsim.problem import Problem

DUAL_MATRICES = 6  # that a dual frame holds at once
PRIMAL_OVERHEAD = 2.0  # small batched products cost about twice the flops of one large one


def frame_of(problem: Problem, kind: Literal["dual", "primal", "full"] | None = None, dtype: Any = np.float64) -> Frame:
    """The frame of a problem for runs in a dtype; by default the one with fewer multiply-adds per step."""
    if kind not in (None, "dual", "primal", "full"):
        raise ValueError(f"coordinates: expected 'dual', 'primal', 'full' or None for the cheapest; got {kind!r}")
    if kind is None:
        n, T, _ = problem.shape
        d, e = problem.W_shape
        r_x, r_z = min(d, n * T), min(e, n)
        primal = PRIMAL_OVERHEAD * 2 * n * r_x * (r_z + T)
        kind = "dual" if (n * T) ** 2 <= primal else "primal"
    _check_memory(problem, kind)
    with _machine.few_threads(problem.visible.size):
        return {"dual": DualFrame, "primal": PrimalFrame, "full": FullFrame}[kind](problem, dtype)


def _check_memory(problem: Problem, kind: str) -> None:
    """Refuse a frame whose matrices cannot fit, before they are made."""
    n, T, _ = problem.shape
    d, e = problem.W_shape
    if kind == "dual":
        advice = f'; {DUAL_MATRICES} matrices of (n·T)² numbers. Coordinates "primal" need none'
        _machine.need("problem", DUAL_MATRICES * 8 * (n * T) ** 2, f"(n·T)² = {n * T:,}² numbers", advice)
    elif kind == "full":
        _machine.need("problem", 8 * (d * d + e * e), f"whole matrices of {d:,} × {e:,} numbers")


def least_norm_coefficients(
    frame: Frame, moved: Float[np.ndarray, "... size"], n: int, T: int
) -> Float[np.ndarray, "... n T"]:
    """The smallest c with Σ_it c_it x_it z_iᵀ = what `moved` describes; a bad lane stays in its own row."""
    rows = frame.combine(np.eye(n * T).reshape(n * T, n, T))
    return (moved @ np.linalg.pinv(rows)).reshape(*moved.shape[:-1], n, T)
