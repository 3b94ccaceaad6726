"""What is known of the att-SVM of one selection."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.problem import Problem

SUPPORT_TOLERANCE = 1e-6  # a constraint is active when its margin is within this of 1 (convention of this project)
GAP_TOLERANCE = 1e-9  # relative duality gap that a solution must certify


@dataclasses.dataclass(frozen=True, eq=False)
class MaxMargin:
    """The att-SVM solution of one selection.

    The floats of the problem are taken as exact, so that "optimal" and "infeasible" can be proved, and are.

    Attributes:
        selection: α, shape (n,).
        status: "optimal" (a matrix with margins ≥ 1 and a dual bound prove the norm to 1e-9); "infeasible" (multipliers
            λ ≥ 0, not all 0, with Σ λ_it (x_iα - x_it) z_iᵀ = 0 prove that no W separates the selection; then norm is
            inf); or "inaccurate", with norm inf (neither was proved: that sum nearly vanishes, so that changes of
            tokens and queries by 1e-15 of their sizes decide; or the solver gave up; or the proof would need more than
            some seconds of arithmetic). In results also "unsolved", where nobody asked. The engine by cvxpy says
            "inaccurate" with a norm, an upper bound, where its gap is above 1e-9.
        norm: ‖W^α‖_F.
        multipliers: λ_it ≥ 0 of the constraints, shape (n, T), 0 at t = α_i.
        support: True at the tokens whose constraint is active, shape (n, T).
        gap: relative duality gap of the squared norm, W being scaled so that its least margin is 1; counts rounding.
        problem: where the selection lives.
        matrix: W^α rounded once from many digits, where the combination of rounded multipliers would not be it to 1e-9
            (near-infeasible selections); None elsewhere.
    """

    problem: Problem
    selection: Int[np.ndarray, " n"]
    status: Literal["optimal", "infeasible", "inaccurate", "unsolved"]
    norm: float
    multipliers: Float[np.ndarray, "n T"]
    support: Bool[np.ndarray, "n T"]
    gap: float
    matrix: Float[np.ndarray, "d e"] | None = None

    def __repr__(self):
        count = int(self.support.sum())
        return f"MaxMargin({self.status}, norm={self.norm:.6g}, gap={self.gap:.1e}, {count} support tokens)"

    @property
    def feasible(self) -> bool:
        """Whether a W that separates the selection was found."""
        return bool(np.isfinite(self.norm))

    @property
    def attracts(self) -> bool:
        """Whether the selection has a limit, certified, and is locally optimal: where runs can end for good."""
        return self.status == "optimal" and self.locally_optimal

    @property
    def coeffs(self) -> Float[np.ndarray, "n T"]:
        """μ with W^α = Σ_it μ_it x_it z_iᵀ; every row sums to zero."""
        mu = -self.multipliers
        mu[np.arange(len(mu)), self.selection] = self.multipliers.sum(1)
        return mu

    @property
    def W(self) -> Float[np.ndarray, "d e"]:
        """W^α as a matrix; NaN where there is none."""
        if not np.isfinite(self.norm):
            return np.full(self.problem.W_shape, np.nan)
        if self.matrix is not None:
            return self.matrix.copy()
        keys = self.problem.keys * self.problem.visible[:, :, None]
        # From differences, which keep the digits that a common part of the keys would cost.
        differences = keys[np.arange(len(keys)), self.selection][:, None] - keys
        return np.einsum("it,itd,ie->de", self.multipliers, differences, self.problem.queries, optimize=True)

    @property
    def locally_optimal(self) -> bool:
        """Whether no active token outscores the selected one (arXiv 2308.16898, local optimality)."""
        scores = self.problem.scores
        selected = scores[np.arange(len(scores)), self.selection][:, None]
        return bool(np.isfinite(self.norm)) and not bool(np.any(self.support & (scores > selected)))


def without_solution(
    problem: Problem, alpha: Int[np.ndarray, " n"], status: Literal["infeasible", "inaccurate"]
) -> MaxMargin:
    """The result of a selection for which no separating W was found."""
    nothing = np.zeros(problem.visible.shape)
    return MaxMargin(problem, alpha, status, np.inf, nothing, nothing.astype(bool), np.inf)
