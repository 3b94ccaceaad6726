"""Holding runs against their limits: the att-SVM solution of each lane's own selection."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.margin import MarginSolver, MaxMargin
from jaxsim.model.frames import Frame
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
        keys = [tuple(alpha) for alpha in distinct.tolist()]
        new = [k for k in np.argsort(first) if keys[k] not in self._number]
        if new:
            self._number |= {keys[k]: len(self.solutions) + j for j, k in enumerate(new)}
            solutions = self._solver.solve_many(distinct[new])
            self.solutions += solutions
            self.units += [self._unit(mm) for mm in solutions]
        return np.array([self._number[key] for key in keys])[inverse.ravel()]

    def _unit(self, mm: MaxMargin) -> np.ndarray:
        # One at a time: a product of matrices rounds differently for another number of rows.
        if not np.isfinite(mm.norm):
            return np.full(self.frame.size, np.nan)
        return self.frame.combine(mm.coeffs[None])[0] / mm.norm


def follow(
    xi: Float[np.ndarray, "lanes R size"], outside: Float[np.ndarray, " lanes"], unit: Float[np.ndarray, "lanes size"]
) -> tuple[Float[np.ndarray, "lanes R"], Float[np.ndarray, "lanes R"]]:
    """‖W_k‖ and the direction error ‖W_k/‖W_k‖ - W^α/‖W^α‖‖, by the difference itself.

    A difference of unit vectors keeps all its digits; 1 minus a correlation would lose half of them. NaN where
    W_k = 0 or the limit does not exist.
    """
    norm = np.sqrt(np.einsum("lrs,lrs->lr", xi, xi) + outside[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = xi / norm[..., None]
        apart -= unit[:, None, :]
        error = np.sqrt(np.einsum("lrs,lrs->lr", apart, apart) + outside[:, None] / norm**2)
    return norm, error


def same(selections: Int[np.ndarray, "lanes n"], target: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " lanes"]:
    """Which lanes select exactly `target`."""
    return (selections == target).all(-1)
