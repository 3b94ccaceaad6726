r"""Exact coordinates for W: the dynamics need n·T or r_x·r_z numbers per run, never d × d.

With Φ the N × d² matrix of rows vec(x_it z_iᵀ), N = n·T, every rule that moves W by combinations of gradients
stays in W_0 + span(Φᵀ). Two isometric descriptions of that span, the cheaper one chosen per problem:

    dual    W = W_0 + Φᵀ c, carried as logits a and coefficients c; one product with K = ΦΦᵀ a step
    primal  the core U_xᵀ W U_z (r_x × r_z) on orthonormal bases of the tokens and of the queries

Σ_t g_it = 0 in every sequence, so the device works with tokens less their sequence's mean (`rows`): nothing changes
but the rounding, which a large common part would spoil. `DualFrame` and `PrimalFrame` hold the float64 host side:
bases, projections, lifts. Their `space(dtype)` is what runs on the device. Both describe W by Euclidean coordinates ξ:
|ξ| is the Frobenius norm of the part of W inside the span.
"""

from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float

from jaxsim import _machine
from jaxsim.model.dual import DualFrame
from jaxsim.model.primal import FullFrame, PrimalFrame
from jaxsim.model.spaces import DualEntry, PrimalEntry, Space
from jaxsim.problem import Problem

DUAL_MATRICES = 6  # that a dual frame holds at once
PRIMAL_OVERHEAD = 2.0  # small batched products cost about twice the flops of one large one


class Frame(Protocol):
    """The float64 host side: how W and the Euclidean coordinates ξ of a space translate."""

    kind: str  # "dual", "primal" or "full"
    size: int  # length of ξ
    rank: int  # dimension of the span that ξ describes
    ambient: int  # d², the dimension of the whole of W

    def space(self, dtype: Any) -> Space:
        """The device side in the run's dtype, its leaves still on the host."""
        ...

    def project(self, W: Float[np.ndarray, "lanes d e"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ξ, the start vector and ‖W outside‖² of given matrices, each with lanes first."""
        ...

    def begin(self, xi: Float[np.ndarray, "lanes size"]) -> np.ndarray:
        """Start vectors of ξ."""
        ...

    def entry(self, dtype: Any) -> DualEntry | PrimalEntry:
        """From random ξ to their part inside the span and start vectors; on the device."""
        ...

    def locate(self, start: np.ndarray, position: np.ndarray) -> np.ndarray:
        """ξ (…, size) from ξ_0 (…, size) and a position (…, p)."""
        ...

    def combine(self, coeffs: Float[np.ndarray, "k n T"]) -> Float[np.ndarray, "k size"]:
        """ξ of the matrices Σ_it μ_it x_it z_iᵀ."""
        ...

    def coefficients(self, position: np.ndarray) -> Float[np.ndarray, "... n T"] | None:
        """c, where a position holds it."""
        ...

    def logits(self, xi: Float[np.ndarray, "... size"]) -> Float[np.ndarray, "... n T"]:
        """a_it of the part of W inside the span, which is all that logits see."""
        ...

    def lift(self, xi: Float[np.ndarray, " size"]) -> Float[np.ndarray, "d e"]:
        """The matrix that ξ describes."""
        ...

    @property
    def span(self) -> Float[np.ndarray, "rank size"]:
        """An orthonormal basis of the ξ that occur."""
        ...


def frame_of(problem: Problem, kind: Literal["dual", "primal", "full"] | None = None, dtype: Any = np.float64) -> Frame:
    """The frame of a problem for runs in a dtype; by default the one with fewer multiply-adds per step."""
    if kind not in (None, "dual", "primal", "full"):
        raise ValueError(f"coordinates: expected 'dual', 'primal', 'full' or None for the cheapest; got {kind!r}")
    if kind is None:
        n, T, _ = problem.shape
        d, e = problem.weights
        r_x, r_z = min(d, n * T), min(e, n)
        primal = PRIMAL_OVERHEAD * 2 * n * r_x * (r_z + T)
        kind = "dual" if (n * T) ** 2 <= primal else "primal"
    _check_memory(problem, kind)
    return {"dual": DualFrame, "primal": PrimalFrame, "full": FullFrame}[kind](problem, dtype)


def _check_memory(problem: Problem, kind: str) -> None:
    """Refuse a frame whose matrices cannot fit, before they are made."""
    n, T, _ = problem.shape
    d, e = problem.weights
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
