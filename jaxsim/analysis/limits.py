"""Holding runs against their limits: the att-SVM solution of each lane's own selection."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.coordinates import Frame
from jaxsim.margin import MarginSolver, MaxMargin
from jaxsim.problem import Problem


@dataclasses.dataclass
class Limits:
    """The distinct selections met so far, each solved at most once.

    `solutions[k]` is the limit of selection number k, `units[k]` its direction ξ^α/‖W^α‖ (NaN where there is none).
    Where `all_lanes` is False, only selections of lanes that are needed are solved; the others are "unsolved".
    """

    problem: Problem
    frame: Frame
    all_lanes: bool = True

    def __post_init__(self):
        self._number: dict[tuple[int, ...], int] = {}
        self.solutions: list[MaxMargin] = []
        self.units: list[np.ndarray] = []

    @functools.cached_property
    def _solver(self) -> MarginSolver:
        """Made when first needed: in high dimensions that takes longer than a run."""
        return MarginSolver(self.problem)

    def number(
        self, selections: Int[np.ndarray, "lanes n"], needed: Bool[np.ndarray, " lanes"]
    ) -> Int[np.ndarray, " lanes"]:
        """The number of each lane's selection; new ones are numbered in order of appearance."""
        numbers, unsolved = self.enter(selections, needed)
        if unsolved:
            self.settle(unsolved, self._solver.solve_many([self.solutions[k].selection for k in unsolved]))
        return numbers

    def enter(
        self, selections: Int[np.ndarray, "lanes n"], needed: Bool[np.ndarray, " lanes"]
    ) -> tuple[Int[np.ndarray, " lanes"], list[int]]:
        """The number of each lane's selection, and which numbers are asked for and not solved."""
        keys = list(map(tuple, selections.tolist()))
        for key in dict.fromkeys(keys):
            if key not in self._number:
                self._number[key] = len(self.solutions)
                self.solutions.append(_unsolved(self.problem, np.array(key, selections.dtype)))
                self.units.append(np.full(self.frame.size, np.nan))
        numbers = np.array([self._number[key] for key in keys])
        wanted = sorted(set((numbers if self.all_lanes else numbers[needed]).tolist()))
        return numbers, [k for k in wanted if self.solutions[k].status == "unsolved"]

    def settle(self, numbers: list[int], solutions: list[MaxMargin]) -> None:
        """Take the solutions of selections with these numbers."""
        for k, mm in zip(numbers, solutions, strict=True):
            self.solutions[k], self.units[k] = mm, self._unit(mm)

    def of(self, numbers: Int[np.ndarray, " lanes"], needed: Bool[np.ndarray, " lanes"]) -> np.ndarray:
        """The unit direction of each lane's limit, NaN for lanes whose limit is not asked for; (lanes, size)."""
        units = np.stack([self.units[k] for k in numbers])
        return units if self.all_lanes else np.where(needed[:, None], units, np.nan)

    def _unit(self, mm: MaxMargin) -> np.ndarray:
        # One at a time: a product of matrices rounds differently for another number of rows.
        if not np.isfinite(mm.norm):
            return np.full(self.frame.size, np.nan)
        return self.frame.combine(mm.coeffs[None])[0] / mm.norm


def _unsolved(problem: Problem, alpha: Int[np.ndarray, " n"]) -> MaxMargin:
    nothing = np.zeros(problem.visible.shape)
    return MaxMargin(problem, alpha, "unsolved", np.nan, nothing, nothing.astype(bool), np.nan)


def follow(
    xi: Float[np.ndarray, "lanes R size"], outside: Float[np.ndarray, "_ _"], unit: Float[np.ndarray, "lanes size"]
) -> tuple[Float[np.ndarray, "lanes R"], Float[np.ndarray, "lanes R"]]:
    """‖W_k‖ and the direction error ‖W_k/‖W_k‖ - W^α/‖W^α‖‖, by the difference itself.

    A difference of unit vectors keeps all its digits; 1 minus a correlation would lose half of them. NaN where
    W_k = 0 or the limit does not exist.
    """
    norm = np.sqrt(np.einsum("lrs,lrs->lr", xi, xi) + outside)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = xi / norm[..., None]
        apart -= unit[:, None, :]
        error = np.sqrt(np.einsum("lrs,lrs->lr", apart, apart) + outside / norm**2)
    return norm, error


def same(
    selections: Int[np.ndarray, "lanes n"], target: Int[np.ndarray, "#lanes n"] | Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " lanes"]:
    """Which lanes select exactly `target`."""
    return (selections == target).all(-1)
