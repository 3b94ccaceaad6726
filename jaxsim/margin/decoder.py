"""The hard-margin classifier: the shortest vector that every row agrees with."""

from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsim.problem import Problem

from .integers import TooLarge, constraints_of_rows
from .least_norm import least_norm, proves_infeasible
from .many_digits import decide
from .solution import GAP_TOLERANCE
from .solver import checked_selection
from .stack import powers_below


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
    alpha = checked_selection(selection, problem.visible)
    rows = problem.labels[:, None] * problem.tokens[np.arange(len(alpha)), alpha]
    return hard_margin(rows)


def hard_margin(rows: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], float]:
    """w/‖w‖ and ‖w‖ of the shortest w with rows·w ≥ 1; NaN and inf where there is none, or none was proved."""
    unit = powers_below(rows[None]).item()
    scaled = rows / unit
    lam, (separable,), _ = least_norm(scaled[None])
    w = lam[0] @ scaled
    if separable and _gap(scaled, lam[0], w) <= GAP_TOLERANCE:
        norm = float(np.linalg.norm(w))
        return w / norm, norm / float((scaled @ w).min()) / unit
    nothing = np.full(rows.shape[1], np.nan), np.inf
    if not separable and proves_infeasible(scaled[None], np.ones((1, len(rows), 1)), np.zeros(len(rows), int), lam)[0]:
        return nothing
    try:
        decided = decide(constraints_of_rows(scaled), lam[0], bool(separable))
    except TooLarge:
        return nothing
    if decided.certificate is None:
        return nothing
    w = w if decided.matrix is None else decided.matrix[:, 0]
    return w / np.linalg.norm(w), decided.certificate.norm / unit


def _gap(rows: np.ndarray, multipliers: np.ndarray, w: np.ndarray) -> float:
    """The relative duality gap of w = multipliers · rows, rounding counted; inf where w does not separate."""
    sizes = np.linalg.norm(rows, axis=1)
    rounding = (sum(rows.shape) + 10) * np.finfo(float).eps / 2
    total = multipliers @ sizes
    least = (rows @ w - rounding * sizes * total).min()
    if not least > 0:
        return np.inf
    most = w @ w + rounding * total**2
    return 1 - max(2 * multipliers.sum() - most, 0.0) * least**2 / most
