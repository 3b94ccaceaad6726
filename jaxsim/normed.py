r"""The att-SVM in other norms, by cvxpy, with a dual certificate computed from the data.

    W^α = argmin N(W)  subject to  (x_{i,α_i} - x_it)ᵀ W z_i ≥ 1 for all i and visible t ≠ α_i

With A_m the constraint matrices (x_{i,α_i} - x_it) z_iᵀ and N* the dual norm, any λ ≥ 0 with N*(Σ λ_m A_m) ≤ 1 proves
N(W^α) ≥ Σ λ_m, and W scaled to margin 1 bounds it from above; the gap between the two is the certificate.
The maximum over blocks of rows of a norm of each has as its dual the sum of their dual norms.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from jaxsim._basis import orthonormal_basis
from jaxsim.problem import Problem

Norm = Literal["frobenius", "nuclear", "spectral", "l1", "linf", "lp"] | str  # or several, with / between them
NORMS = ("frobenius", "nuclear", "spectral", "l1", "linf", "lp")
CERTIFIED = 1e-6
SHARP = 1e-9  # the gap with which hybrid norms are content
UNITS = (1.0, 0.5, 2.0, 0.7, 1.4)  # of W: where a solver of several cones halts early, it does not in another unit


@dataclasses.dataclass(frozen=True, eq=False)
class NormedMargin:
    """The max-margin matrix of one selection in one norm.

    Attributes:
        selection: α, shape (n,).
        norm_name: the norm, with p for "lp".
        status: "optimal" (the certified gap is at most 1e-6), "infeasible" (proved: a combination of the constraints
            vanishes, see `MaxMargin`) or "inaccurate" (neither was proved).
        norm: N(W^α), an upper bound where inaccurate; inf where infeasible or where no W was found.
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
    """N(W): a Schatten norm (frobenius, nuclear, spectral), one of the entries (l1, linf, lp), or a hybrid of them.

    "spectral/linf" is the larger of the spectral norm of the upper rows and the largest entry of the lower: as many
    blocks of rows as there are names, by numpy.array_split.
    """
    if "/" in name:
        return max(norm_of(part, each) for part, each in _blocks(W, name))
    if name in ("nuclear", "spectral"):
        singular = np.linalg.svd(W, compute_uv=False)
        return float(singular.sum() if name == "nuclear" else singular.max())
    order = {"frobenius": 2.0, "l1": 1.0, "linf": np.inf, "lp": p}[name]
    return float(np.linalg.norm(W.ravel(), order))


def dual_norm_of(W: Float[np.ndarray, "d e"], name: str, p: float | None = None) -> float:
    """N*(W) = max ⟨W, V⟩ over N(V) ≤ 1; of a maximum over blocks, the sum of theirs."""
    if "/" in name:
        return sum(dual_norm_of(part, each) for part, each in _blocks(W, name))
    dual = {"frobenius": "frobenius", "nuclear": "spectral", "spectral": "nuclear", "l1": "linf", "linf": "l1"}
    if name == "lp":
        assert p is not None
        return norm_of(W, "lp", p / (p - 1))
    return norm_of(W, dual[name])


def _blocks(W: Float[np.ndarray, "d e"], name: str) -> list[tuple[Float[np.ndarray, "rows e"], str]]:
    """The blocks of rows of a hybrid norm, each with its norm."""
    names = name.split("/")
    return [(part, each) for part, each in zip(np.array_split(W, len(names)), names, strict=True) if part.size]


def check_norm(name: Any, p: Any) -> float | None:
    """The order p of "lp", None for the other norms; ValueError for what is no norm."""
    parts = name.split("/") if isinstance(name, str) else [name]
    if not set(parts) <= set(NORMS) or (len(parts) > 1 and "lp" in parts):
        raise ValueError(
            f"norm: expected one of {', '.join(NORMS)}, or some of them without lp for blocks of rows, such as "
            f"'spectral/linf'; got {name!r}"
        )
    if name != "lp":
        if p is not None:
            raise ValueError(f"p: expected nothing for the norm {name!r}; got {p!r}")
        return None
    if isinstance(p, bool) or not isinstance(p, int | float) or not 1 < p < np.inf:
        raise ValueError(f"p: expected a number above 1 for the lp norm; got {p!r}")
    return float(p)


def solve(problem: Problem, alpha: Int[np.ndarray, " n"], name: Norm, p: float | None = None) -> NormedMargin:
    """The solution in the named norm; see `max_margin`.

    "inaccurate" with norm inf where the solver found no W: whether there is one is not for a solver to say.
    """
    label = name if p is None else f"l{p:g}"
    nothing = NormedMargin(alpha, label, "inaccurate", np.inf, np.full(problem.W_shape, np.nan), np.inf)
    rows = unit_rows(problem, alpha, rotated=name in ("nuclear", "spectral"))
    if rows is None:
        return nothing
    W, upper, lower = None, np.inf, 0.0
    for unit in UNITS if "/" in name else UNITS[:1]:
        asked = dataclasses.replace(rows, demands=unit * rows.demands)
        found = minimise(asked, lambda cp, V: _expression(cp, V, name, p), lambda V: norm_of(V, name, p), 1e-10)
        if found is None:
            continue
        if (size := norm_of(found.W, name, p) / unit) < upper:
            W, upper = found.W / unit, size
        doubt = rows.rounding * found.multipliers.sum() * np.sqrt(found.W.size)  # what rounding may hide of the pull
        pull = dual_norm_of(rows.combine(found.multipliers), name, p) + doubt
        lower = max(lower, found.multipliers @ rows.demands / pull)
        if upper - lower <= SHARP * upper:
            break
    if W is None:
        return nothing
    return _certified(nothing, rows.full(W), upper / rows.unit, (upper - lower) / upper)


def settle(
    found: NormedMargin, name: Norm, p: float | None, infeasible: bool, frobenius: Float[np.ndarray, "d e"]
) -> NormedMargin:
    """An inaccurate result, improved by what is known of the Frobenius norm.

    N(W) of the Frobenius solution W bounds N(W^α) from above; its multipliers, with Σ λ_m A_m = W and Σ λ_m = ‖W‖²,
    bound it by ‖W‖² / N*(W) from below.

    Args:
        found: what `solve` gave in the norm `name`.
        name: the norm.
        p: its order, for "lp".
        infeasible: whether it is proved that no W separates.
        frobenius: the Frobenius solution, NaN where none is known, shape (d, e).
    """
    if infeasible:
        return dataclasses.replace(found, status="infeasible")
    if not np.isfinite(frobenius).all():
        return found
    size = float(np.linalg.norm(frobenius))
    upper, lower = norm_of(frobenius, name, p), size * (size / dual_norm_of(frobenius, name, p))
    if np.isfinite(found.norm):
        lower = max(lower, found.norm * (1 - found.gap))
        if found.norm < upper:
            return _certified(found, found.W, found.norm, 1 - lower / found.norm)
    return _certified(found, frobenius, upper, 1 - lower / upper)


def _certified(result: NormedMargin, W: np.ndarray, norm: float, gap: float) -> NormedMargin:
    status = "optimal" if gap <= CERTIFIED else "inaccurate"
    return dataclasses.replace(result, status=status, norm=float(norm), W=W, gap=float(gap))


@dataclasses.dataclass(frozen=True, eq=False)
class UnitRows:
    """The constraints, each of length 1, so that the sizes of sequences and queries are no burden to a solver.

        row_m · V ≥ demand_m,  W = B V Cᵀ / unit

    Attributes:
        rows: shape (M, a·b).
        demands: 1 for the shortest constraint, less for longer ones.
        unit: the length of the shortest.
        bases: B and C, orthonormal.
    """

    rows: Float[np.ndarray, "M s"]
    demands: Float[np.ndarray, " M"]
    unit: float
    bases: tuple[Float[np.ndarray, "d a"], Float[np.ndarray, "e b"]]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of V."""
        return self.bases[0].shape[1], self.bases[1].shape[1]

    @property
    def rounding(self) -> float:
        """What a sum over a row, or over the rows, may lose in units of its terms."""
        return (sum(self.rows.shape) + sum(self.bases[0].shape) + 10) * np.finfo(float).eps

    def combine(self, multipliers: Float[np.ndarray, " M"]) -> Float[np.ndarray, "a b"]:
        """Σ multipliers_m row_m."""
        return (multipliers @ self.rows).reshape(self.shape)

    def full(self, V: Float[np.ndarray, "a b"]) -> Float[np.ndarray, "d e"]:
        """V as W."""
        return self.bases[0] @ V @ self.bases[1].T / self.unit


def unit_rows(problem: Problem, alpha: Int[np.ndarray, " n"], rotated: bool) -> UnitRows | None:
    """The constraints of a selection; in bases of the two spans where rotated. None where a constraint is 0."""
    i, t = np.nonzero(problem.visible & (np.arange(problem.shape[1]) != alpha[:, None]))
    left, right = problem.keys[i, alpha[i]] - problem.keys[i, t], problem.queries[i]
    left_sizes, right_sizes = np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1)
    sizes = left_sizes * right_sizes
    if not sizes.all():
        return None
    left, right = left / left_sizes[:, None], right / right_sizes[:, None]
    bases = (np.eye(left.shape[1]), np.eye(right.shape[1]))
    if rotated:
        bases = (orthonormal_basis(left), orthonormal_basis(right))
    rows = ((left @ bases[0])[:, :, None] * (right @ bases[1])[:, None, :]).reshape(len(i), -1)
    return UnitRows(rows, sizes.min() / sizes, float(sizes.min()), bases)


@dataclasses.dataclass(frozen=True, eq=False)
class Minimum:
    """V that meets all demands, the least of them exactly, and multipliers ≥ 0 of the rows."""

    W: Float[np.ndarray, "a b"]
    multipliers: Float[np.ndarray, " M"]


def minimise(
    rows: UnitRows, objective: Callable[[Any, Any], Any], size: Callable[[Any], float], tolerance: float
) -> Minimum | None:
    """Minimise by Clarabel; None where no V that meets the demands was found.

    A solver keeps rows·V ≥ demand to its tolerance, which may be more than a small demand. What is missing is made good
    by a little of a V that meets a demand of 1 everywhere.

    Args:
        rows: the constraints.
        objective: of cvxpy and its variable.
        size: the norm of V, to choose the smaller of two.
        tolerance: of the solver.
    """
    near, multipliers = _by_clarabel(rows, rows.demands, objective, tolerance)
    if near is None:
        return None
    candidates = [near]
    if (rows.rows @ near.ravel() < rows.demands * (1 - tolerance)).any():
        inner, _ = _by_clarabel(rows, np.ones(len(rows.demands)), objective, tolerance)
        if inner is not None:
            slack = rows.rounding * np.linalg.norm(near)
            lack, gain = rows.demands + slack - rows.rows @ near.ravel(), rows.rows @ inner.ravel()
            if gain.min() > rows.rounding * np.linalg.norm(inner):
                candidates.append(near + max((lack / gain).max(), 0.0) * inner)
    met = []
    for V in candidates:
        margins = rows.rows @ V.ravel()
        if (margins > rows.rounding * np.linalg.norm(V)).all():
            met.append(V / (margins / rows.demands).min())
    return Minimum(min(met, key=size), multipliers) if met else None


def _by_clarabel(rows: UnitRows, demands: np.ndarray, objective: Any, tolerance: float) -> tuple[Any, Any]:
    """V and multipliers, or None and None."""
    import cvxpy as cp
    from cvxpy.error import SolverError

    V = cp.Variable(rows.shape)
    constraint = rows.rows @ cp.vec(V, order="C") >= demands
    program = cp.Problem(cp.Minimize(objective(cp, V)), [constraint])
    accuracy = dict(tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of doubtful accuracy: the certificate decides
            program.solve(solver=cp.CLARABEL, **accuracy)
    except SolverError:
        return None, None
    if V.value is None or constraint.dual_value is None:
        return None, None
    return V.value, np.maximum(constraint.dual_value, 0.0)


def _expression(cp: Any, W: Any, name: str, p: float | None) -> Any:
    if "/" in name:
        names = name.split("/")
        rows = np.array_split(np.arange(W.shape[0]), len(names))
        each = [_expression(cp, W[r[0] : r[-1] + 1], n, None) for r, n in zip(rows, names, strict=True) if len(r)]
        return cp.maximum(*each) if len(each) > 1 else each[0]
    if name == "nuclear":
        return cp.normNuc(W)
    if name == "spectral":
        return cp.sigma_max(W)
    order = {"frobenius": 2, "l1": 1, "linf": "inf", "lp": p}[name]
    return cp.norm(cp.vec(W, order="C"), order)
