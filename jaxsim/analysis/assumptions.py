"""Quantities of a data set on which convergence to the global solution is known to depend. No theorem is claimed."""

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxsim.margin import max_margin
from jaxsim.problem import Problem


@dataclasses.dataclass(frozen=True, eq=False)
class Conditions:
    """What `conditions` returns; every number with its definition.

    Attributes:
        score_gap: s_{i,opt} minus the second-best score of sequence i, (n,); inf where it has one token.
        other_spread: largest minus smallest score among the tokens of sequence i that are not optimal, (n,); 0 where
            all others score alike.
        spread_over_gap: max_i other_spread / score_gap; 0 where all non-optimal tokens score alike.
        coherence: max over pairs of different visible tokens of |⟨x, x'⟩| / (‖x‖ ‖x'‖), 0 for orthogonal tokens.
        weakest_over_overlap: min ‖x‖² / (number of other tokens · max |⟨x, x'⟩|); above 1 the Gram matrix of
            the tokens is diagonally dominant. inf for orthogonal tokens.
        feasible: whether W_mm exists.
        norm: ‖W_mm‖; inf where infeasible.
        margin: 1 / (‖W_mm‖ max ‖k_it‖ max ‖z_i‖), the margin of W_mm in units of the data; 0 where infeasible.
        support_tokens: number of active constraints of W_mm.
        constraints: number of constraints, Σ_i (T_i - 1).

    Whether another selection than opt is an attractor is not decided here; see `jaxsim.attractors`.
    """

    score_gap: Float[np.ndarray, " n"]
    other_spread: Float[np.ndarray, " n"]
    spread_over_gap: float
    coherence: float
    weakest_over_overlap: float
    feasible: bool
    norm: float
    margin: float
    support_tokens: int
    constraints: int


def conditions(problem: Problem) -> Conditions:
    """Score gaps, score spreads, near-orthogonality, support tokens and feasibility margin of a problem.

    Args:
        problem: the data.

    Returns:
        A `Conditions`.

    Example:
        >>> import jax, jaxsim
        >>> found = jaxsim.conditions(jaxsim.data.orthonormal(jax.random.key(0)))
        >>> found.feasible, round(found.coherence, 9)
        (True, 0.0)
    """
    visible, scores = problem.visible, problem.scores
    best = problem.optimal
    others = visible & (np.arange(scores.shape[1]) != best[:, None])
    high = np.where(others, scores, -np.inf).max(1)
    low = np.where(others, scores, np.inf).min(1)
    gap = scores[np.arange(len(best)), best] - high
    spread = np.where(others.any(1), high - low, 0.0)
    tokens = problem.tokens[visible]
    norms = np.linalg.norm(tokens, axis=1)
    overlap = np.abs(tokens @ tokens.T)
    np.fill_diagonal(overlap, 0.0)
    scale = np.where(norms > 0, norms, 1.0)
    largest = overlap.max()
    mm = max_margin(problem)
    sizes = np.linalg.norm(problem.keys[visible], axis=1).max() * np.linalg.norm(problem.queries, axis=1).max()
    finite = np.isfinite(gap)
    return Conditions(
        score_gap=gap,
        other_spread=spread,
        spread_over_gap=float((spread[finite] / gap[finite]).max()),
        coherence=float((overlap / scale / scale[:, None]).max()),
        weakest_over_overlap=float(norms.min() ** 2 / ((len(tokens) - 1) * largest)) if largest > 0 else np.inf,
        feasible=mm.feasible,
        norm=mm.norm,
        margin=float(1 / (mm.norm * sizes)),
        support_tokens=int(mm.support.sum()),
        constraints=int(others.sum()),
    )
