"""The att-SVM by cvxpy, an independent check."""

import numpy as np

from jaxsim.problem import Problem

from .solution import SUPPORT_TOLERANCE, MaxMargin


def solve_with_cvxpy(problem: Problem, alpha: np.ndarray) -> MaxMargin:
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
