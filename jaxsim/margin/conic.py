"""The att-SVM by cvxpy, an independent check of the engine of this room."""

import numpy as np
from jaxtyping import Int

from jaxsim import normed
from jaxsim.problem import Problem

from .solution import GAP_TOLERANCE, SUPPORT_TOLERANCE, MaxMargin, without_solution
from .solver import MarginSolver


def solve_with_cvxpy(problem: Problem, alpha: Int[np.ndarray, " n"]) -> MaxMargin:
    """The same problem, stated in d × d variables and given to Clarabel.

    Its solution is held against the constraints here. Where it has none, the selection is infeasible if a combination
    of the constraints is proved to vanish, whatever the solver says.
    """
    rows = normed.unit_rows(problem, alpha, rotated=False)
    found = None
    if rows is not None:
        found = normed.minimise(rows, lambda cp, V: 0.5 * cp.sum_squares(V), lambda V: float(np.linalg.norm(V)), 1e-12)
    if rows is None or found is None:
        proved = MarginSolver(problem).solve(alpha).status == "infeasible"
        return without_solution(problem, alpha, "infeasible" if proved else "inaccurate")
    constrained = problem.visible & (np.arange(problem.shape[1]) != alpha[:, None])
    multipliers, support = np.zeros(constrained.shape), np.zeros(constrained.shape, bool)
    multipliers[constrained] = found.multipliers * rows.demands / rows.unit**2
    support[constrained] = rows.rows @ found.W.ravel() <= rows.demands * (1 + SUPPORT_TOLERANCE)
    norm = np.linalg.norm(found.W)
    pull = np.linalg.norm(rows.combine(found.multipliers)) + rows.rounding * found.multipliers.sum()
    gap = float(1 - (found.multipliers @ rows.demands / pull / norm) ** 2)
    status = "optimal" if gap <= GAP_TOLERANCE else "inaccurate"
    W = rows.full(found.W)
    return MaxMargin(problem, alpha, status, float(norm / rows.unit), multipliers, support, gap, W)
