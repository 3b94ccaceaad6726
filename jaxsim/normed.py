r"""The att-SVM in other norms, by cvxpy, with a dual certificate computed from the data.

    W^α = argmin N(W)  subject to  (x_{i,α_i} - x_it)ᵀ W z_i ≥ 1 for all i and visible t ≠ α_i

With A_m the constraint matrices (x_{i,α_i} - x_it) z_iᵀ and N* the dual norm, any λ ≥ 0 with N*(Σ λ_m A_m) ≤ 1 proves
N(W^α) ≥ Σ λ_m, and W scaled to margin 1 bounds it from above; the gap between the two is the certificate.
"""

import dataclasses
import warnings
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from jaxsim._basis import orthonormal_basis
from jaxsim.problem import Problem

Norm = Literal["frobenius", "nuclear", "spectral", "l1", "linf", "lp"]
NORMS = ("frobenius", "nuclear", "spectral", "l1", "linf", "lp")
CERTIFIED = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class NormedMargin:
    """The max-margin matrix of one selection in one norm.

    Attributes:
        selection: α, shape (n,).
        norm_name: the norm, with p for "lp".
        status: "optimal" (the certified gap is at most 1e-6), "inaccurate" or "infeasible".
        norm: N(W^α); inf where infeasible.
        W: the solution, scaled so that its smallest margin is 1; NaN where there is none.
        gap: certified relative gap, (N(W) - dual bound) / N(W).
    """

    selection: Int[np.ndarray, " n"]
    norm_name: str
    status: Literal["optimal", "inaccurate", "infeasible"]
    norm: float
    W: Float[np.ndarray, "d e"]
    gap: float

    def __repr__(self):
        return f"NormedMargin({self.norm_name}, {self.status}, norm={self.norm:.6g}, gap={self.gap:.1e})"


def norm_of(W: Float[np.ndarray, "d e"], name: str, p: float | None = None) -> float:
    """N(W): a Schatten norm (frobenius, nuclear, spectral) or one of the entries (l1, linf, lp)."""
    if name in ("nuclear", "spectral"):
        singular = np.linalg.svd(W, compute_uv=False)
        return float(singular.sum() if name == "nuclear" else singular.max())
    order = {"frobenius": 2.0, "l1": 1.0, "linf": np.inf, "lp": p}[name]
    return float(np.linalg.norm(W.ravel(), order))


def dual_norm_of(W: Float[np.ndarray, "d e"], name: str, p: float | None = None) -> float:
    """N*(W) = max ⟨W, V⟩ over N(V) ≤ 1."""
    dual = {"frobenius": "frobenius", "nuclear": "spectral", "spectral": "nuclear", "l1": "linf", "linf": "l1"}
    if name == "lp":
        assert p is not None
        return norm_of(W, "lp", p / (p - 1))
    return norm_of(W, dual[name])


def check_norm(name: Any, p: Any) -> float | None:
    """The order p of "lp", None for the other norms; ValueError for what is no norm."""
    if name not in NORMS:
        raise ValueError(f"norm: expected one of {', '.join(NORMS)}; got {name!r}")
    if name != "lp":
        if p is not None:
            raise ValueError(f"p: expected nothing for the norm {name!r}; got {p!r}")
        return None
    if isinstance(p, bool) or not isinstance(p, int | float) or not 1 < p < np.inf:
        raise ValueError(f"p: expected a number above 1 for the lp norm; got {p!r}")
    return float(p)


def solve(problem: Problem, alpha: Int[np.ndarray, " n"], name: Norm, p: float | None = None) -> NormedMargin:
    """The solution in the named norm; see `max_margin`."""
    import cvxpy as cp
    from cvxpy.error import SolverError

    label = name if p is None else f"l{p:g}"
    i, t = np.nonzero(problem.visible & (np.arange(problem.shape[1]) != alpha[:, None]))
    left, right = problem.keys[i, alpha[i]] - problem.keys[i, t], problem.queries[i]
    bases = [np.eye(side) for side in problem.weights]
    if name in ("nuclear", "spectral"):  # invariant under rotations, so only the spans of the two sides matter
        bases = [orthonormal_basis(left), orthonormal_basis(right)]
    inner, outer = left @ bases[0], right @ bases[1]
    unit = np.linalg.norm(inner, axis=1).max() * np.linalg.norm(outer, axis=1).max()
    rows = (inner[:, :, None] * outer[:, None, :]).reshape(len(i), -1) / unit
    shape = (inner.shape[1], outer.shape[1])
    W = cp.Variable(shape)
    constraint = rows @ cp.vec(W, order="C") >= 1
    program = cp.Problem(cp.Minimize(_expression(cp, W, name, p)), [constraint])
    nothing = NormedMargin(alpha, label, "infeasible", np.inf, np.full(problem.weights, np.nan), np.inf)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of doubtful accuracy: the certificate below decides
            program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    except SolverError:
        return dataclasses.replace(nothing, status="inaccurate")
    if W.value is None:
        return nothing if "infeasible" in program.status else dataclasses.replace(nothing, status="inaccurate")
    least = (rows @ W.value.ravel()).min()
    if not least > 0:
        return dataclasses.replace(nothing, status="inaccurate")
    found = W.value / least
    upper = norm_of(found, name, p)
    multipliers = np.maximum(constraint.dual_value, 0.0)
    pull = dual_norm_of((multipliers @ rows).reshape(shape), name, p)
    lower = multipliers.sum() / pull if pull > 0 else 0.0
    gap = (upper - lower) / upper
    status = "optimal" if gap <= CERTIFIED else "inaccurate"
    full = bases[0] @ found @ bases[1].T / unit
    return NormedMargin(alpha, label, status, float(upper / unit), full, float(gap))


def _expression(cp: Any, W: Any, name: str, p: float | None) -> Any:
    if name == "nuclear":
        return cp.normNuc(W)
    if name == "spectral":
        return cp.sigma_max(W)
    order = {"frobenius": 2, "l1": 1, "linf": "inf", "lp": p}[name]
    return cp.norm(cp.vec(W, order="C"), order)
