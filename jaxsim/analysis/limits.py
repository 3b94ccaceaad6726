"""Holding runs against their limits: the att-SVM solution of each lane's own selection."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.margin import MarginSolver, MaxMargin
from jaxsim.model.coordinates import Frame
from jaxsim.problem import Problem


@dataclasses.dataclass
class Limits:
    """The distinct selections met so far, each solved once.

    `solutions[k]` is the limit of selection number k, `units[k]` its direction ξ^α/‖W^α‖ (NaN where infeasible).
    """

    problem: Problem
    frame: Frame

    def __post_init__(self):
        self._solver = MarginSolver(self.problem)
        self._number: dict[tuple[int, ...], int] = {}
        self.solutions: list[MaxMargin] = []
        self.units: list[np.ndarray] = []

    def number(self, selections: Int[np.ndarray, "lanes n"]) -> Int[np.ndarray, " lanes"]:
        """The number of each lane's selection; new ones are solved and numbered in order of appearance."""
        distinct, first, inverse = np.unique(selections, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        numbers = np.empty(len(distinct), int)
        for k in order:
            alpha = tuple(int(t) for t in distinct[k])
            if alpha not in self._number:
                self._number[alpha] = len(self.solutions)
                self._add(self._solver.solve(distinct[k]))
            numbers[k] = self._number[alpha]
        return numbers[inverse.ravel()]

    def _add(self, solution: MaxMargin) -> None:
        self.solutions.append(solution)
        unit = np.full(self.frame.size, np.nan)
        if np.isfinite(solution.norm):
            unit = self.frame.combine(solution.coeffs[None])[0] / solution.norm
        self.units.append(unit)


def follow(
    xi: Float[np.ndarray, "lanes R size"], outside: Float[np.ndarray, " lanes"], unit: Float[np.ndarray, "lanes size"]
) -> tuple[Float[np.ndarray, "lanes R"], Float[np.ndarray, "lanes R"]]:
    """‖W_k‖ and the direction error ‖W_k/‖W_k‖ - W^α/‖W^α‖‖, by the difference itself.

    A difference of unit vectors keeps all its digits; 1 minus a correlation would lose half of them. NaN where
    W_k = 0 or the limit does not exist.
    """
    norm = np.sqrt((xi * xi).sum(-1) + outside[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = xi / norm[..., None] - unit[:, None, :]
        error = np.sqrt((apart * apart).sum(-1) + outside[:, None] / norm**2)
    return norm, error


def same(selections: Int[np.ndarray, "lanes n"], target: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " lanes"]:
    """Which lanes select exactly `target`."""
    return (selections == target).all(-1)
