r"""The max-margin reference W^α of a selection of tokens, with a certificate.

    W^α = argmin ‖W‖_F  subject to  (x_{i,α_i} - x_it)ᵀ W z_i ≥ 1  for all i and visible t ≠ α_i.

This module depends on the data alone, so it cannot inherit an error of the simulator.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim import normed
from jaxsim.normed import NormedMargin
from jaxsim.problem import Problem

SUPPORT_TOLERANCE = 1e-6  # a constraint is active when its margin is within this of 1 (convention of this project)
INFEASIBLE_BELOW = 1e-11  # of the least-distance residual, about the reciprocal of the norm in units of the data
GAP_TOLERANCE = 1e-9  # relative duality gap that a solution must certify
BATCH_NUMBERS = 2**21  # held at once while many selections are solved


@dataclasses.dataclass(frozen=True, eq=False)
class MaxMargin:
    """The att-SVM solution of one selection.

    Attributes:
        selection: α, shape (n,).
        status: "optimal"; "infeasible" (no W separates the selection; then norm is inf); or "inaccurate" (the
            certificate does not reach 1e-9: the selection is within rounding of infeasible, and norm may be inf). In
            results also "unsolved", where nobody asked.
        norm: ‖W^α‖_F.
        multipliers: λ_it ≥ 0 of the constraints, shape (n, T), 0 at t = α_i.
        support: True at the tokens whose constraint is active, shape (n, T).
        gap: relative duality gap after scaling W to primal feasibility; both bounds come with the solution.
        problem: where the selection lives.
    """

    problem: Problem
    selection: Int[np.ndarray, " n"]
    status: Literal["optimal", "infeasible", "inaccurate", "unsolved"]
    norm: float
    multipliers: Float[np.ndarray, "n T"]
    support: Bool[np.ndarray, "n T"]
    gap: float

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
            return np.full(self.problem.weights, np.nan)
        return np.einsum("it,itd,ie->de", self.coeffs, self.problem.keys, self.problem.queries, optimize=True)

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
    computed from keys and queries, not from the factorisation.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        self._visible = visible = problem.visible
        n, T, _ = problem.shape
        tokens = problem.keys * visible[:, :, None]
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
        return self.solve_many([selection])[0]

    def solve_many(self, selections: Iterable[Any]) -> list[MaxMargin]:
        """W^α of each selection, in order. A selection's result does not depend on its company."""
        known = [_checked(alpha, self._visible) for alpha in selections]
        alphas = np.array(known, dtype=int).reshape(len(known), len(self._visible))
        size = max(1, BATCH_NUMBERS // (self._rows.size + 1))
        return [mm for k in range(0, len(alphas), size) for mm in self._solve(alphas[k : k + size])]

    def _solve(self, alphas: Int[np.ndarray, "U n"]) -> list[MaxMargin]:
        """One batch. Every selection has as many constraints, so their rows stack."""
        U, n = alphas.shape
        own = np.arange(n)
        constrained = np.repeat(self._visible[None], U, axis=0)
        np.put_along_axis(constrained, alphas[:, :, None], False, axis=2)
        A = (self._rows[own, alphas][:, :, None] - self._rows)[constrained].reshape(U, -1, self._rows.shape[2])
        lam, separable = _least_norm(A)
        multipliers = np.zeros(constrained.shape)
        multipliers[constrained] = lam.ravel()
        margins, squared = self._check(alphas, multipliers)
        least = np.where(constrained, margins, np.inf).min((1, 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            lower = np.maximum(2 * multipliers.sum((1, 2)) - squared, 0.0)  # the dual objective: below ‖W^α‖²
            upper = squared / np.minimum(least, 1.0) ** 2  # W / least is feasible: an upper bound
            gaps = (upper - lower) / upper
        support = constrained & (margins <= 1 + SUPPORT_TOLERANCE)
        norms = np.sqrt(np.maximum(squared, 0.0)) / self._unit  # below 0 by rounding only where the certificate fails
        multipliers /= self._unit**2
        return [
            self._judge(alphas[k], separable[k], least[k], gaps[k], norms[k], multipliers[k], support[k])
            for k in range(U)
        ]

    def _judge(self, alpha, separable, least, gap, norm, multipliers, support) -> MaxMargin:
        """What the certificate says of one selection."""
        if separable and least > 0:
            status = "optimal" if gap <= GAP_TOLERANCE else "inaccurate"
            return MaxMargin(self.problem, alpha, status, float(norm), multipliers, support, float(gap))
        status = "inaccurate" if separable else "infeasible"
        nothing = np.zeros_like(multipliers)
        return MaxMargin(self.problem, alpha, status, np.inf, nothing, nothing.astype(bool), np.inf)

    def _check(self, alphas: np.ndarray, multipliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Margins (x_iα - x_it)ᵀ W z_i and ‖W‖² of W = Σ λ_it (x_iα - x_it) z_iᵀ, straight from the data."""
        differences = self._x[np.arange(alphas.shape[1]), alphas][:, :, None] - self._x
        moments = (multipliers[:, :, None] @ differences)[:, :, 0]
        images = self._query_gram @ moments  # W z_i
        return (differences @ images[..., None])[..., 0], (moments * images).sum((1, 2))


def classifier(problem: Problem, selection: Any) -> tuple[Float[np.ndarray, " d"], float]:
    """u_mm/‖u_mm‖ and ‖u_mm‖ of the hard-margin classifier of the selected tokens.

        u_mm = argmin ‖u‖  subject to  y_i uᵀ x_{i,α_i} ≥ 1 for all i

    NaN and inf where the tokens are not separable by a hyperplane through 0.

    Example:
        >>> import numpy as np, jaxsim
        >>> problem = jaxsim.Problem(np.eye(2)[None], queries=0, labels=[1], decoder=[1.0, 0.0])
        >>> classifier(problem, [1])
        (array([0., 1.]), 1.0)
    """
    alpha = _checked(selection, problem.visible)
    rows = problem.labels[:, None] * problem.tokens[np.arange(len(alpha)), alpha]
    return hard_margin(rows)


def hard_margin(rows: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], float]:
    """w/‖w‖ and ‖w‖ of the shortest w with rows·w ≥ 1; NaN and inf where there is none."""
    multipliers, separable = _least_norm(rows[None])
    w = multipliers[0] @ rows
    if not separable[0] or not (rows @ w).min() > 0:
        return np.full(rows.shape[1], np.nan), np.inf
    norm = float(np.linalg.norm(w))
    return w / norm, norm


Engine = Literal["exact", "cvxpy"]


@overload
def max_margin(
    problem: Problem, selection: Any = None, engine: Engine = "exact", norm: None = None, p: None = None
) -> MaxMargin: ...


@overload
def max_margin(
    problem: Problem, selection: Any = None, *, norm: normed.Norm, p: float | None = None
) -> NormedMargin: ...


def max_margin(
    problem: Problem, selection: Any = None, engine: Any = "exact", norm: Any = None, p: Any = None
) -> MaxMargin | NormedMargin:
    r"""The max-margin matrix W^α that separates the selected token of every sequence from the others.

        W^α = argmin ‖W‖  subject to  (x_{i,α_i} - x_it)ᵀ W z_i ≥ 1  for all i and visible t ≠ α_i

    Args:
        problem: the data.
        selection: α, one token index per sequence, shape (n,); by default the optimal tokens, which gives
            W_mm.
        engine: for the Frobenius norm, "exact" (non-negative least squares) or "cvxpy" (Clarabel), an independent
            check.
        norm: None for the Frobenius norm by the engine; or "frobenius", "nuclear", "spectral", "l1", "linf" or "lp"
            (of the entries), each by cvxpy with a dual certificate.
        p: the order of "lp", above 1.

    Returns:
        A `MaxMargin` with W, norm, support tokens, status and duality gap; where `norm` is given, a `NormedMargin`.
        Infeasible is a status, not an error.

    Raises:
        ValueError: where the selection has the wrong shape, is out of range or points at a hidden token, or the norm
            is unknown.

    Reference:
        att-SVM of Tarzanagh, Li, Thrampoulidis, Oymak, arXiv 2308.16898; the nuclear norm is the one of their
        (K, Q)-parametrisation.

    Example:
        >>> import numpy as np, jaxsim
        >>> problem = jaxsim.Problem(np.eye(2)[None], queries=0, labels=[1], decoder=[1.0, 0.0])
        >>> mm = jaxsim.max_margin(problem)
        >>> mm.status, round(mm.norm, 12)
        ('optimal', 0.707106781187)
        >>> round(jaxsim.max_margin(problem, norm="linf").norm, 6)
        0.5
    """
    alpha = _checked(problem.optimal if selection is None else selection, problem.visible)
    if norm is not None:
        order = normed.check_norm(norm, p)
        return normed.solve(problem, alpha, norm, order)
    if engine == "exact":
        return MarginSolver(problem).solve(alpha)
    if engine == "cvxpy":
        return _solve_with_cvxpy(problem, alpha)
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


def _least_norm(A: Float[np.ndarray, "U M r"]) -> tuple[Float[np.ndarray, "U M"], Bool[np.ndarray, " U"]]:
    """Multipliers λ ≥ 0 of min ‖w‖ subject to A w ≥ 1, w = Aᵀλ, and whether such a w exists."""
    import scipy.optimize  # slow to import, and only solving needs it

    sizes = np.sqrt((A * A).sum(2))
    separable = sizes.all(1)
    sizes[~separable] = 1.0
    demand = sizes.min(1, keepdims=True) / sizes
    B = A / sizes[:, :, None]
    system = np.concatenate([B, demand[:, :, None]], axis=2)
    target = np.zeros(system.shape[2])
    target[-1] = 1.0
    lam = np.zeros(demand.shape)
    for k in np.flatnonzero(separable):
        try:
            lam[k], residual = scipy.optimize.nnls(system[k].T, target, maxiter=50 * len(lam[k]) + 100)
        except RuntimeError:  # no convergence: λ = 0, and the certificate says so
            continue
        # At the optimum residual² = 1/(1 + ‖w‖²) = 1 - demand·λ in these units; it vanishes exactly when no w exists.
        slack = 1.0 - demand[k] @ lam[k]
        separable[k] = residual >= INFEASIBLE_BELOW and slack > 0
        lam[k] /= slack if separable[k] else 1.0
    lam = _polish(B, demand, lam)
    return lam / (sizes.min(1, keepdims=True) * sizes), separable


def _polish(B: np.ndarray, demand: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Solve the active constraints as equations; keep the start where that leaves the non-negative orthant."""
    active = lam > 0
    count = active.sum(1)
    polished = lam.copy()
    for width in np.unique(count[(count > 0) & (count <= B.shape[2])]):  # alike ones stack
        which = np.flatnonzero(count == width)
        mine = active[which]
        rows = B[which][mine].reshape(len(which), width, -1)
        R: np.ndarray = np.linalg.qr(rows.swapaxes(1, 2), mode="r")  # type: ignore[assignment]
        diagonal = np.abs(np.diagonal(R, axis1=1, axis2=2))
        sound = diagonal.min(1) > width * np.finfo(float).eps * diagonal.max(1)
        R[~sound] = np.eye(width)
        inner = np.linalg.solve(R.swapaxes(1, 2), demand[which][mine].reshape(-1, width, 1))
        exact = np.linalg.solve(R, inner)[:, :, 0]
        sound &= (exact >= 0).all(1)
        each = polished[which]
        each[mine] = exact.ravel()
        polished[which[sound]] = each[sound]
    return polished


def _solve_with_cvxpy(problem: Problem, alpha: np.ndarray) -> MaxMargin:
    """The same problem, stated in d × d variables and given to Clarabel."""
    import cvxpy as cp

    n = len(problem.labels)
    size = problem.weights[0] * problem.weights[1]
    constrained = problem.visible.copy()
    constrained[np.arange(n), alpha] = False
    i, t = np.nonzero(constrained)
    differences = problem.keys[i, alpha[i]] - problem.keys[i, t]
    rows = np.einsum("md,me->mde", differences, problem.queries[i]).reshape(len(i), size)
    w = cp.Variable(size)
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
