r"""The att-SVM of many selections, of one problem or of many."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from jaxsim import _machine
from jaxsim.problem import Problem, check_problem

from .solution import MaxMargin
from .stack import Stack


class MarginSolver:
    """Solves the att-SVM of many selections of one problem; what they share is computed once."""

    def __init__(self, problem: Problem):
        check_problem(problem)
        self.problem = problem
        with _machine.few_threads(problem.visible.size):
            self._stack = Stack([problem])

    def solve(self, selection: Any) -> MaxMargin:
        """W^α of one selection, shape (n,)."""
        return self.solve_many([selection])[0]

    def solve_many(self, selections: Iterable[Any]) -> list[MaxMargin]:
        """W^α of each selection, in order. A selection's result does not depend on its company."""
        visible = self.problem.visible
        known = [checked_selection(alpha, visible) for alpha in selections]
        alphas = np.array(known, dtype=int).reshape(len(known), len(visible))
        with _machine.few_threads(visible.size):
            return self._stack.solve(alphas, np.zeros(len(alphas), int))


def solve_each(problems: Sequence[Problem], selections: Sequence[Int[np.ndarray, "_ n"]]) -> list[list[MaxMargin]]:
    """W^α of selections of many problems, what is of one shape together: as `MarginSolver` of each gives them."""
    alike: dict[Any, list[int]] = {}
    for p, problem in enumerate(problems):
        alike.setdefault((problem.keys.shape, problem.queries.shape, problem.visible.tobytes()), []).append(p)
    found: list[list[MaxMargin]] = [[] for _ in problems]
    for members in alike.values():
        counts = [len(selections[p]) for p in members]
        with _machine.few_threads(problems[members[0]].visible.size):
            stack = Stack([problems[p] for p in members])
            solved = stack.solve(
                np.concatenate([selections[p] for p in members]), np.repeat(np.arange(len(members)), counts)
            )
        for p, end, count in zip(members, np.cumsum(counts), counts, strict=True):
            found[p] = solved[end - count : end]
    return found


def checked_selection(selection: Any, visible: Bool[np.ndarray, "n T"]) -> Int[np.ndarray, " n"]:
    """The selection as an array; ValueError where it selects no visible token of every sequence."""
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
