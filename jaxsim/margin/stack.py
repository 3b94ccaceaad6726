r"""Problems of one shape and the att-SVM of their selections: in floats, with a certificate, and in many digits where
floats prove nothing.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.problem import Problem

from .integers import TooLarge, WholeNumbers
from .least_norm import coordinates, least_norm, proves_infeasible, surrounded
from .many_digits import decide
from .solution import GAP_TOLERANCE, SUPPORT_TOLERANCE, MaxMargin, without_solution

BATCH_NUMBERS = 2**21  # held at once while many selections are solved


class Stack:
    """Problems of one shape with the same visible tokens; what their selections share is computed once.

    Tokens lose their sequence's mean, which no constraint sees, and every row Φ_it = x_it ⊗ z_i is written in an
    orthonormal basis of their span by a QR factorisation, which keeps the relative precision of each row however
    different their sizes. A selection is a least-distance problem over unit rows, solved by non-negative least
    squares. The certificate is computed from keys and queries, not from the factorisation, and counts its own rounding.
    What floats do not prove, solution or infeasibility, is solved in many digits and proved in whole numbers.
    """

    def __init__(self, problems: Sequence[Problem]):
        self.problems = problems
        self._whole: dict[int, WholeNumbers] = {}  # of a problem, made when first needed, which in most is never
        visible = self._visible = problems[0].visible
        n, T, _ = problems[0].shape
        keys = np.stack([problem.keys for problem in problems]) * visible[:, :, None]
        queries = np.stack([problem.queries for problem in problems])
        tokens = (keys - keys.sum(2, keepdims=True) / visible.sum(1)[:, None, None]) * visible[:, :, None]
        key_unit, query_unit = powers_below(tokens), powers_below(queries)
        self._unit = (key_unit * query_unit)[:, 0, 0]  # all else is in units in which the largest entries are near 1
        self._x, self._z = keys / key_unit[..., None], queries / query_unit
        P = len(problems)
        x, z = coordinates(tokens.reshape(P, n * T, -1) / key_unit), coordinates(self._z)
        rows = np.einsum("pitd,pie->pitde", x.reshape(P, n, T, -1), z).reshape(P, n * T, -1)
        self._rows = coordinates(rows).reshape(P, n, T, -1)
        self._query_gram = self._z @ self._z.swapaxes(1, 2)
        self._query_sizes = np.linalg.norm(self._z, axis=2)
        self._rounding = (sum(problems[0].W_shape) + n + T + 10) * np.finfo(float).eps / 2  # of nested sums, relative

    def solve(self, alphas: Int[np.ndarray, "U n"], of: Int[np.ndarray, " U"]) -> list[MaxMargin]:
        """W^α of each selection, of the problem with that number, in order."""
        size = max(1, BATCH_NUMBERS // (self._rows[0].size + 1))
        parts = [slice(k, k + size) for k in range(0, len(alphas), size)]
        return [mm for part in parts for mm in self._solve(alphas[part], of[part])]

    def _solve(self, alphas: Int[np.ndarray, "U n"], of: Int[np.ndarray, " U"]) -> list[MaxMargin]:
        """One batch. Every selection has as many constraints, so their rows stack."""
        U, n = alphas.shape
        own = np.arange(n)
        constrained = np.repeat(self._visible[None], U, axis=0)
        np.put_along_axis(constrained, alphas[:, :, None], False, axis=2)
        A = self._rows[of[:, None], own, alphas][:, :, None] - self._rows[of]
        A = A[constrained].reshape(U, -1, A.shape[3])
        lam, separable, stuck = least_norm(A)
        multipliers = np.zeros(constrained.shape)
        multipliers[constrained] = lam.ravel()
        margins, squared, gaps = self._check(alphas, of, multipliers, constrained)
        least = np.where(constrained, margins, np.inf).min((1, 2))
        least = np.where(least > 0, least, 1.0)  # not positive only where the certificate fails, as squared < 0
        support = constrained & (margins <= (1 + SUPPORT_TOLERANCE) * least[:, None, None])
        norms = np.sqrt(np.maximum(squared, 0.0)) / least / self._unit[of]
        scaled = multipliers / least[:, None, None] / (self._unit**2)[of, None, None]
        lost = np.flatnonzero(~separable)
        infeasible = np.zeros(U, bool)
        if len(lost):
            infeasible[lost] = self._proved_infeasible(alphas[lost], of[lost], lam[lost], constrained[lost])
        solved = []
        for k, problem in enumerate(self.problems[p] for p in of):
            if separable[k] and gaps[k] <= GAP_TOLERANCE:
                found = MaxMargin(problem, alphas[k], "optimal", float(norms[k]), scaled[k], support[k], float(gaps[k]))
            elif stuck[k]:
                found = without_solution(problem, alphas[k], "inaccurate")
            elif infeasible[k]:
                found = without_solution(problem, alphas[k], "infeasible")
            else:
                found = self._decide(of[k], alphas[k], scaled[k], constrained[k], bool(separable[k]))
            solved.append(found)
        return solved

    def _differences(self, alphas: np.ndarray, of: np.ndarray) -> Float[np.ndarray, "U n T k"]:
        """x_iα - x_it."""
        x = self._x[of]
        return np.take_along_axis(x, alphas[:, :, None, None], axis=2) - x

    def _check(
        self, alphas: np.ndarray, of: np.ndarray, multipliers: np.ndarray, constrained: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Margins (x_iα - x_it)ᵀ W z_i, ‖W‖² and the duality gap of W = Σ λ_it (x_iα - x_it) z_iᵀ, from the data.

        The gap is that of W over its least margin, and counts what rounding may do to the margins and to ‖W‖².
        """
        differences = self._differences(alphas, of)
        moments = (multipliers[:, :, None] @ differences)[:, :, 0]
        images = self._query_gram[of] @ moments  # W z_i
        margins, squared = (differences @ images[..., None])[..., 0], (moments * images).sum((1, 2))
        sizes = np.sqrt(np.einsum("uitd,uitd->uit", differences, differences)) * self._query_sizes[of][:, :, None]
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
        self, alphas: np.ndarray, of: np.ndarray, lam: Float[np.ndarray, "U M"], constrained: Bool[np.ndarray, "U n T"]
    ) -> Bool[np.ndarray, " U"]:
        """Whether floats prove that a combination of the constraints vanishes, the one found or one of one sequence."""
        differences = self._differences(alphas, of)
        left = differences[constrained].reshape(*lam.shape, -1)
        owner = np.nonzero(constrained[0])[0]  # the same in all
        proved = proves_infeasible(left, self._z[of][:, owner], owner, lam)
        for k in np.flatnonzero(~proved):
            proved[k] = any(surrounded(left[k, owner == i]) for i in np.unique(owner) if self._z[of[k], i].any())
        return proved

    def _decide(
        self, p: int, alpha: Int[np.ndarray, " n"], guess: np.ndarray, constrained: np.ndarray, separable: bool
    ) -> MaxMargin:
        """The result in many digits, for a selection of which floats prove nothing."""
        problem = self.problems[p]
        try:
            if p not in self._whole:
                self._whole[p] = WholeNumbers(problem)
            constraints = self._whole[p].constraints(alpha)
        except TooLarge:
            return without_solution(problem, alpha, "inaccurate")
        decided = decide(constraints, guess[constrained], separable)
        if decided.certificate is None:
            return without_solution(problem, alpha, "infeasible" if decided.infeasible else "inaccurate")
        multipliers, support = np.zeros(constrained.shape), np.zeros(constrained.shape, bool)
        multipliers[constrained], support[constrained] = decided.multipliers, decided.certificate.active
        norm, gap = decided.certificate.norm, decided.certificate.gap
        return MaxMargin(problem, alpha, "optimal", norm, multipliers, support, gap, decided.matrix)


def powers_below(values: Float[np.ndarray, "P ..."]) -> Float[np.ndarray, "P 1 1"]:
    """The power of two just below the largest entry of each: dividing by it is exact."""
    largest = np.abs(values).reshape(len(values), -1).max(1)
    return np.ldexp(1.0, np.frexp(largest)[1] - 1)[:, None, None]
