r"""The max-margin reference W^α of a selection of tokens, with a certificate.

    W^α = argmin ‖W‖_F  subject to  (x_{i,α_i} - x_it)ᵀ W z_i ≥ 1  for all i and visible t ≠ α_i.

This module depends on the data alone, so it cannot inherit an error of the simulator.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Bool, Float, Int

from jaxsim.problem import Problem

SUPPORT_TOLERANCE = 1e-6  # a constraint is active when its margin is within this of 1 (convention of this project)
INFEASIBLE_BELOW = 1e-11  # of the least-distance residual, about the reciprocal of the norm in units of the data
GAP_TOLERANCE = 1e-9  # relative duality gap that a solution must certify


@dataclasses.dataclass(frozen=True, eq=False)
class MaxMargin:
    """The att-SVM solution of one selection.

    Attributes:
        selection: α, shape (n,).
        status: "optimal"; "infeasible" (no W separates the selection; then norm is inf); or "inaccurate" (the
            certificate does not reach 1e-9: the selection is within rounding of infeasible, and norm may be inf).
        norm: ‖W^α‖_F.
        multipliers: λ_it ≥ 0 of the constraints, shape (n, T), 0 at t = α_i.
        support: True at the tokens whose constraint is active, shape (n, T).
        gap: relative duality gap after scaling W to primal feasibility; both bounds come with the solution.
        problem: where the selection lives.
    """

    problem: Problem
    selection: Int[np.ndarray, " n"]
    status: Literal["optimal", "infeasible", "inaccurate"]
    norm: float
    multipliers: Float[np.ndarray, "n T"]
    support: Bool[np.ndarray, "n T"]
    gap: float

    def __repr__(self):
        count = int(self.support.sum())
        return f"MaxMargin({self.status}, norm={self.norm:.6g}, gap={self.gap:.1e}, {count} support tokens)"

    @property
    def feasible(self) -> bool:
        """Whether the selection can be separated."""
        return self.status != "infeasible"

    @property
    def coeffs(self) -> Float[np.ndarray, "n T"]:
        """μ with W^α = Σ_it μ_it x_it z_iᵀ; every row sums to zero."""
        mu = -self.multipliers
        mu[np.arange(len(mu)), self.selection] = self.multipliers.sum(1)
        return mu

    @property
    def W(self) -> Float[np.ndarray, "d d"]:
        """W^α as a matrix; NaN where there is none."""
        if not np.isfinite(self.norm):
            return np.full((self.problem.shape[2],) * 2, np.nan)
        return np.einsum("it,itd,ie->de", self.coeffs, self.problem.tokens, self.problem.queries, optimize=True)

    @property
    def locally_optimal(self) -> bool:
        """Whether no active token outscores the selected one (arXiv 2308.16898, local optimality)."""
        scores = self.problem.scores
        selected = scores[np.arange(len(scores)), self.selection][:, None]
        return bool(np.isfinite(self.norm)) and not bool(np.any(self.support & (scores > selected)))


class MarginSolver:
    """Solves the att-SVM of many selections of one problem; what they share is computed once.

    Tokens lose their sequence's mean, which no constraint sees, and every row Φ_it = x_it ⊗ z_i is written in an
    orthonormal basis of their span by a QR factorisation, which keeps the relative precision of each row however
    different their sizes. A selection is a least-distance problem over unit rows, solved by non-negative least
    squares (Lawson & Hanson, Solving Least Squares Problems, ch. 23) and polished on its active set. The certificate is
    computed from tokens and queries, not from the factorisation.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        self._visible = visible = problem.visible
        n, T, _ = problem.shape
        tokens = problem.tokens * visible[:, :, None]
        tokens = (tokens - tokens.sum(1, keepdims=True) / visible.sum(1)[:, None, None]) * visible[:, :, None]
        token_size, query_size = np.abs(tokens).max(), np.abs(problem.queries).max()
        self._unit = token_size * query_size  # all else is in units in which the largest entries are 1
        self._x = tokens / (token_size or 1.0)
        self._z = problem.queries / (query_size or 1.0)
        x, z = _coordinates(self._x.reshape(n * T, -1)), _coordinates(self._z)
        rows = np.einsum("itd,ie->itde", x.reshape(n, T, -1), z).reshape(n * T, -1)
        self._rows = _coordinates(rows).reshape(n, T, -1)
        self._query_gram = self._z @ self._z.T

    def solve(self, selection: Any) -> MaxMargin:
        """W^α of one selection, shape (n,)."""
        alpha = _checked(selection, self._visible)
        n = len(alpha)
        constrained = self._visible.copy()
        constrained[np.arange(n), alpha] = False
        A = (self._rows[np.arange(n), alpha][:, None] - self._rows)[constrained]
        lam = _least_norm(A)
        multipliers, support = np.zeros(constrained.shape), np.zeros(constrained.shape, bool)
        if lam is None:
            return MaxMargin(self.problem, alpha, "infeasible", np.inf, multipliers, support, np.inf)
        multipliers[constrained] = lam
        margins, squared = self._check(alpha, multipliers)
        least = margins[constrained].min()
        if not least > 0:
            return MaxMargin(self.problem, alpha, "inaccurate", np.inf, multipliers, support, np.inf)
        lower = max(2 * multipliers.sum() - squared, 0.0)  # twice the dual objective: a lower bound on ‖W^α‖²
        upper = squared / min(least, 1.0) ** 2  # W / least is feasible: an upper bound
        gap = float((upper - lower) / upper)
        support = constrained & (margins <= 1 + SUPPORT_TOLERANCE)
        status = "optimal" if gap <= GAP_TOLERANCE else "inaccurate"
        norm = float(np.sqrt(squared) / self._unit)
        return MaxMargin(self.problem, alpha, status, norm, multipliers / self._unit**2, support, gap)

    def _check(self, alpha: np.ndarray, multipliers: np.ndarray) -> tuple[np.ndarray, float]:
        """Margins (x_iα - x_it)ᵀ W z_i and ‖W‖² of W = Σ λ_it (x_iα - x_it) z_iᵀ, straight from the data."""
        differences = self._x[np.arange(len(alpha)), alpha][:, None] - self._x
        moments = np.einsum("it,itd->id", multipliers, differences)
        images = self._query_gram @ moments  # W z_i
        return np.einsum("itd,id->it", differences, images), float(np.sum(moments * images))

    def solve_many(self, selections: Iterable[Any]) -> list[MaxMargin]:
        """W^α of each selection, in order."""
        return [self.solve(alpha) for alpha in selections]


def max_margin(problem: Problem, selection: Any = None, engine: Literal["exact", "cvxpy"] = "exact") -> MaxMargin:
    r"""The max-margin matrix W^α that separates the selected token of every sequence from the others.

        W^α = argmin ‖W‖_F  subject to  (x_{i,α_i} - x_it)ᵀ W z_i ≥ 1  for all i and visible t ≠ α_i

    Args:
        problem: the data.
        selection: α, one token index per sequence, shape (n,); by default the optimal tokens, which gives
            W_mm.
        engine: "exact" (non-negative least squares) or "cvxpy" (Clarabel), an independent check.

    Returns:
        A `MaxMargin` with W, norm, support tokens, status and duality gap. Infeasible is a status, not an error.

    Raises:
        ValueError: where the selection has the wrong shape, is out of range or points at a hidden token.

    Reference:
        att-SVM of Tarzanagh, Li, Thrampoulidis, Oymak, arXiv 2308.16898.

    Example:
        >>> import numpy as np, jaxsim
        >>> problem = jaxsim.Problem(np.eye(2)[None], queries=0, labels=[1], decoder=[1.0, 0.0])
        >>> mm = jaxsim.max_margin(problem)
        >>> mm.status, round(mm.norm, 12)
        ('optimal', 0.707106781187)
    """
    alpha = problem.optimal if selection is None else selection
    if engine == "exact":
        return MarginSolver(problem).solve(alpha)
    if engine == "cvxpy":
        return _solve_with_cvxpy(problem, _checked(alpha, problem.visible))
    raise ValueError(f"engine: expected 'exact' or 'cvxpy'; got {engine!r}")


def _checked(selection: Any, visible: np.ndarray) -> np.ndarray:
    alpha, (n, T) = np.array(selection), visible.shape
    if alpha.shape != (n,) or not np.issubdtype(alpha.dtype, np.integer):
        raise ValueError(
            f"selection: expected {n} token indices, shape ({n},); got {alpha.dtype} of shape {alpha.shape}"
        )
    if alpha.min() < 0 or alpha.max() >= T:
        raise ValueError(f"selection: expected token indices from 0 to {T - 1}; got {alpha.min()} to {alpha.max()}")
    if not visible[np.arange(n), alpha].all():
        raise ValueError(
            f"selection: token of sequence {int(np.argmin(visible[np.arange(n), alpha]))} is hidden by the mask"
        )
    return alpha


def _coordinates(rows: Float[np.ndarray, "N p"]) -> Float[np.ndarray, "N r"]:
    """The same rows in an orthonormal basis of no more than N vectors; Householder, so exact to rounding row by row."""
    if rows.shape[1] <= len(rows):
        return rows
    triangle: np.ndarray = np.linalg.qr(rows.T, mode="r")  # type: ignore[assignment]
    return triangle.T


def _least_norm(A: Float[np.ndarray, "M r"]) -> Float[np.ndarray, " M"] | None:
    """Multipliers λ ≥ 0 of min ‖w‖ subject to A w ≥ 1, w = Aᵀλ; None where no w exists."""
    sizes = np.sqrt((A * A).sum(1))
    if not sizes.all():
        return None
    demand = 1.0 / sizes
    demand /= demand.max()
    B = A / sizes[:, None]
    target = np.zeros(B.shape[1] + 1)
    target[-1] = 1.0
    try:
        dual, residual = scipy.optimize.nnls(np.vstack([B.T, demand]), target, maxiter=50 * len(A) + 100)
    except RuntimeError:  # no convergence: let the certificate say so
        return np.zeros(len(A))
    # At the optimum residual² = 1/(1 + ‖w‖²) = 1 - demand·λ in these units; it vanishes exactly when no w exists.
    slack = 1.0 - demand @ dual
    if residual < INFEASIBLE_BELOW or slack <= 0:
        return None
    lam = _polish(B, demand, dual / slack)
    return lam / (sizes.min() * sizes)


def _polish(B: np.ndarray, demand: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Solve the active constraints as equations; keep the start where that leaves the non-negative orthant."""
    active = lam > 0
    Q, R = np.linalg.qr(B[active].T)
    diagonal = np.abs(np.diag(R))
    if len(R) < active.sum() or diagonal.min() <= len(R) * np.finfo(float).eps * diagonal.max():
        return lam
    inner = scipy.linalg.solve_triangular(R, demand[active], trans=1)
    exact = scipy.linalg.solve_triangular(R, inner)
    if not np.all(exact >= 0):
        return lam
    polished = np.zeros_like(lam)
    polished[active] = exact
    return polished


def _solve_with_cvxpy(problem: Problem, alpha: np.ndarray) -> MaxMargin:
    """The same problem, stated in d × d variables and given to Clarabel."""
    import cvxpy as cp

    n, _, d = problem.shape
    constrained = problem.visible.copy()
    constrained[np.arange(n), alpha] = False
    i, t = np.nonzero(constrained)
    differences = problem.tokens[i, alpha[i]] - problem.tokens[i, t]
    rows = np.einsum("md,me->mde", differences, problem.queries[i]).reshape(len(i), d * d)
    w = cp.Variable(d * d)
    constraint = rows @ w >= 1
    program = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(w)), [constraint])
    program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    multipliers, support = np.zeros(constrained.shape), np.zeros(constrained.shape, bool)
    if w.value is None:
        return MaxMargin(problem, alpha, "infeasible", np.inf, multipliers, support, np.inf)
    margins = rows @ w.value
    multipliers[constrained] = np.maximum(constraint.dual_value, 0)
    support[constrained] = margins <= 1 + SUPPORT_TOLERANCE
    squared = float(w.value @ w.value)
    implied = rows.T @ multipliers[constrained]
    gap = 1 - (2 * multipliers.sum() - implied @ implied) / (squared / min(margins.min(), 1.0) ** 2)
    status = "optimal" if program.status == "optimal" else "inaccurate"
    return MaxMargin(problem, alpha, status, float(np.sqrt(squared)), multipliers, support, float(gap))
