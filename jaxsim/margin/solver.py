r"""The att-SVM of many selections: in floats, with a certificate, and in many digits where floats prove nothing."""

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim import _machine
from jaxsim.problem import Problem, check_problem

from .integers import TooLarge, WholeNumbers
from .least_norm import coordinates, least_norm, proves_infeasible, surrounded
from .many_digits import decide
from .solution import GAP_TOLERANCE, SUPPORT_TOLERANCE, MaxMargin, without_solution

BATCH_NUMBERS = 2**21  # held at once while many selections are solved


class MarginSolver:
    """Solves the att-SVM of many selections of one problem; what they share is computed once.

    Tokens lose their sequence's mean, which no constraint sees, and every row Φ_it = x_it ⊗ z_i is written in an
    orthonormal basis of their span by a QR factorisation, which keeps the relative precision of each row however
    different their sizes. A selection is a least-distance problem over unit rows, solved by non-negative least
    squares. The certificate is computed from keys and queries, not from the factorisation, and counts its own rounding.
    What floats do not prove, solution or infeasibility, is solved in many digits and proved in whole numbers.
    """

    def __init__(self, problem: Problem):
        check_problem(problem)
        self.problem = problem
        self._visible = problem.visible
        with _machine.few_threads(self._visible.size):
            self._prepare(problem)

    def _prepare(self, problem: Problem) -> None:
        visible = self._visible
        n, T, _ = problem.shape
        keys = problem.keys * visible[:, :, None]
        tokens = (keys - keys.sum(1, keepdims=True) / visible.sum(1)[:, None, None]) * visible[:, :, None]
        key_unit, query_unit = power_below(tokens), power_below(problem.queries)
        self._unit = key_unit * query_unit  # all else is in units in which the largest entries are near 1
        self._x, self._z = keys / key_unit, problem.queries / query_unit
        x, z = coordinates(tokens.reshape(n * T, -1) / key_unit), coordinates(self._z)
        rows = np.einsum("itd,ie->itde", x.reshape(n, T, -1), z).reshape(n * T, -1)
        self._rows = coordinates(rows).reshape(n, T, -1)
        self._query_gram = self._z @ self._z.T
        self._query_sizes = np.linalg.norm(self._z, axis=1)
        self._rounding = (sum(problem.W_shape) + n + T + 10) * np.finfo(float).eps / 2  # of nested sums, relative

    @functools.cached_property
    def _whole(self) -> WholeNumbers:
        """Made when first needed, which in most problems is never."""
        return WholeNumbers(self.problem)

    def solve(self, selection: Any) -> MaxMargin:
        """W^α of one selection, shape (n,)."""
        return self.solve_many([selection])[0]

    def solve_many(self, selections: Iterable[Any]) -> list[MaxMargin]:
        """W^α of each selection, in order. A selection's result does not depend on its company."""
        known = [checked_selection(alpha, self._visible) for alpha in selections]
        alphas = np.array(known, dtype=int).reshape(len(known), len(self._visible))
        size = max(1, BATCH_NUMBERS // (self._rows.size + 1))
        with _machine.few_threads(self._visible.size):
            return [mm for k in range(0, len(alphas), size) for mm in self._solve(alphas[k : k + size])]

    def _solve(self, alphas: Int[np.ndarray, "U n"]) -> list[MaxMargin]:
        """One batch. Every selection has as many constraints, so their rows stack."""
        U, n = alphas.shape
        own = np.arange(n)
        constrained = np.repeat(self._visible[None], U, axis=0)
        np.put_along_axis(constrained, alphas[:, :, None], False, axis=2)
        A = (self._rows[own, alphas][:, :, None] - self._rows)[constrained].reshape(U, -1, self._rows.shape[2])
        lam, separable, stuck = least_norm(A)
        multipliers = np.zeros(constrained.shape)
        multipliers[constrained] = lam.ravel()
        margins, squared, gaps = self._check(alphas, multipliers, constrained)
        least = np.where(constrained, margins, np.inf).min((1, 2))
        least = np.where(least > 0, least, 1.0)  # not positive only where the certificate fails, as squared < 0
        support = constrained & (margins <= (1 + SUPPORT_TOLERANCE) * least[:, None, None])
        norms = np.sqrt(np.maximum(squared, 0.0)) / least / self._unit
        scaled = multipliers / least[:, None, None] / self._unit**2
        lost = np.flatnonzero(~separable)
        infeasible = np.zeros(U, bool)
        if len(lost):
            infeasible[lost] = self._proved_infeasible(alphas[lost], lam[lost], constrained[lost])
        solved = []
        for k in range(U):
            if separable[k] and gaps[k] <= GAP_TOLERANCE:
                found = MaxMargin(
                    self.problem, alphas[k], "optimal", float(norms[k]), scaled[k], support[k], float(gaps[k])
                )
            elif stuck[k]:
                found = without_solution(self.problem, alphas[k], "inaccurate")
            elif infeasible[k]:
                found = without_solution(self.problem, alphas[k], "infeasible")
            else:
                found = self._decide(alphas[k], scaled[k], constrained[k], bool(separable[k]))
            solved.append(found)
        return solved

    def _check(self, alphas: np.ndarray, multipliers: np.ndarray, constrained: np.ndarray) -> tuple[np.ndarray, ...]:
        """Margins (x_iα - x_it)ᵀ W z_i, ‖W‖² and the duality gap of W = Σ λ_it (x_iα - x_it) z_iᵀ, from the data.

        The gap is that of W over its least margin, and counts what rounding may do to the margins and to ‖W‖².
        """
        differences = self._x[np.arange(alphas.shape[1]), alphas][:, :, None] - self._x
        moments = (multipliers[:, :, None] @ differences)[:, :, 0]
        images = self._query_gram @ moments  # W z_i
        margins, squared = (differences @ images[..., None])[..., 0], (moments * images).sum((1, 2))
        sizes = np.sqrt(np.einsum("uitd,uitd->uit", differences, differences)) * self._query_sizes[:, None]
        total = (multipliers * sizes).sum((1, 2))
        doubt = self._rounding * sizes * total[:, None, None]
        least = np.where(constrained, margins - doubt, np.inf).min((1, 2))
        most = squared + self._rounding * total**2
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            lower = np.maximum(2 * multipliers.sum((1, 2)) - most, 0.0)  # the dual objective: below ‖W^α‖²
            upper = most / least**2  # W / least is feasible: an upper bound
            gaps = np.where(least > 0, (upper - lower) / upper, np.inf)
        return margins, squared, gaps

    def _proved_infeasible(
        self, alphas: Int[np.ndarray, "U n"], lam: Float[np.ndarray, "U M"], constrained: Bool[np.ndarray, "U n T"]
    ) -> Bool[np.ndarray, " U"]:
        """Whether floats prove that a combination of the constraints vanishes, the one found or one of one sequence."""
        differences = self._x[np.arange(alphas.shape[1]), alphas][:, :, None] - self._x
        left = differences[constrained].reshape(*lam.shape, -1)
        owner = np.nonzero(constrained[0])[0]  # the same in all
        proved = proves_infeasible(left, np.broadcast_to(self._z[owner], (*lam.shape, self._z.shape[1])), owner, lam)
        for k in np.flatnonzero(~proved):
            proved[k] = any(surrounded(left[k, owner == i]) for i in np.unique(owner) if self._z[i].any())
        return proved

    def _decide(
        self, alpha: Int[np.ndarray, " n"], guess: np.ndarray, constrained: Bool[np.ndarray, "n T"], separable: bool
    ) -> MaxMargin:
        """The result in many digits, for a selection of which floats prove nothing."""
        try:
            constraints = self._whole.constraints(alpha)
        except TooLarge:
            return without_solution(self.problem, alpha, "inaccurate")
        decided = decide(constraints, guess[constrained], separable)
        if decided.certificate is None:
            return without_solution(self.problem, alpha, "infeasible" if decided.infeasible else "inaccurate")
        multipliers, support = np.zeros(constrained.shape), np.zeros(constrained.shape, bool)
        multipliers[constrained], support[constrained] = decided.multipliers, decided.certificate.active
        norm, gap = decided.certificate.norm, decided.certificate.gap
        return MaxMargin(self.problem, alpha, "optimal", norm, multipliers, support, gap, decided.matrix)


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


def power_below(values: np.ndarray) -> float:
    """The power of two just below the largest entry: dividing by it is exact."""
    return float(np.ldexp(1.0, int(np.frexp(np.abs(values).max())[1]) - 1))
