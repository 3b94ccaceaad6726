r"""The max-margin reference W^α of a selection of tokens, with a certificate.

    W^α = argmin ‖W‖_F  subject to  (x_{i,α_i} - x_it)ᵀ W z_i ≥ 1  for all i and visible t ≠ α_i.

This room depends on the data alone, so it cannot inherit an error of the simulator.
"""

from typing import Any, Literal, overload

from jaxsim import normed
from jaxsim.normed import NormedMargin
from jaxsim.problem import Problem, check_problem

from .conic import solve_with_cvxpy
from .decoder import classifier, hard_margin
from .priority import GraphSVM, finite_part, graph_svm
from .solution import GAP_TOLERANCE, SUPPORT_TOLERANCE, MaxMargin
from .solver import MarginSolver, checked_selection, solve_each

__all__ = [
    "GAP_TOLERANCE",
    "SUPPORT_TOLERANCE",
    "Engine",
    "GraphSVM",
    "MarginSolver",
    "MaxMargin",
    "classifier",
    "finite_part",
    "graph_svm",
    "hard_margin",
    "max_margin",
    "solve_each",
]

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
            (of the entries), each by cvxpy with a dual certificate; or several of them but "lp" for as many blocks of
            rows, such as "spectral/linf": the largest of the blocks' norms.
        p: the order of "lp", above 1.

    Returns:
        A `MaxMargin` with W, norm, support tokens, status and duality gap; where `norm` is given, a `NormedMargin`.
        Infeasible is a status, not an error, and never a solver's word: it is proved here for the floats as they are.

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
    check_problem(problem)
    alpha = checked_selection(problem.optimal if selection is None else selection, problem.visible)
    if norm is not None:
        order = normed.check_norm(norm, p)
        found = normed.solve(problem, alpha, norm, order)
        if found.status == "optimal":
            return found
        frobenius = MarginSolver(problem).solve(alpha)
        return normed.settle(found, norm, order, frobenius.status == "infeasible", frobenius.W)
    if engine == "exact":
        return MarginSolver(problem).solve(alpha)
    if engine == "cvxpy":
        return solve_with_cvxpy(problem, alpha)
    raise ValueError(f"engine: expected 'exact' or 'cvxpy'; got {engine!r}")
