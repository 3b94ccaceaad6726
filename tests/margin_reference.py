"""The att-SVM of small problems in rational arithmetic: every active set is tried, and rounding decides nothing."""

import dataclasses
import itertools
from fractions import Fraction

import mpmath
import numpy as np


@dataclasses.dataclass(frozen=True)
class Reference:
    """W^α without error: `rows` are the constraint matrices, flat, and `multipliers` theirs; None where infeasible."""

    rows: list[list[Fraction]]
    multipliers: list[Fraction] | None

    @property
    def norm(self):
        """‖W^α‖ to 50 digits; inf where infeasible."""
        if self.multipliers is None:
            return mpmath.inf
        with mpmath.workdps(50):
            square = squared(combine(self.rows, self.multipliers))
            return mpmath.sqrt(mpmath.mpf(square.numerator) / square.denominator)


def constraint_rows(problem, alpha):
    """(x_iα - x_it) z_iᵀ of every constraint as d·e fractions, in the order of (i, t)."""
    rows = []
    for i, (tokens, query) in enumerate(zip(problem.keys, problem.queries, strict=True)):
        z = [Fraction(v) for v in query.tolist()]
        own = [Fraction(v) for v in tokens[alpha[i]].tolist()]
        for t, other in enumerate(tokens.tolist()):
            if t != alpha[i] and problem.visible[i, t]:
                rows.append([(a - Fraction(b)) * c for a, b in zip(own, other, strict=True) for c in z])
    return rows


def solve(problem, alpha):
    """W^α by trying every set of active constraints; at most 2^M of them, so M is small."""
    rows = constraint_rows(problem, alpha)
    for size in range(1, len(rows) + 1):
        for active in itertools.combinations(range(len(rows)), size):
            multipliers = equations([[dot(rows[k], rows[m]) for m in active] for k in active])
            if multipliers is None or min(multipliers) < 0:
                continue
            full = [Fraction(0)] * len(rows)
            for k, value in zip(active, multipliers, strict=True):
                full[k] = value
            w = combine(rows, full)
            if all(dot(row, w) >= 1 for row in rows):
                return Reference(rows, full)
    return Reference(rows, None)


def equations(matrix):
    """The solution of matrix · λ = 1 by Gauss and Jordan, None where the matrix is singular."""
    table = [[*row, Fraction(1)] for row in matrix]
    for k in range(len(table)):
        pivot = next((m for m in range(k, len(table)) if table[m][k]), None)
        if pivot is None:
            return None
        table[k], table[pivot] = table[pivot], table[k]
        table[k] = [v / table[k][k] for v in table[k]]
        for m in range(len(table)):
            if m != k:
                table[m] = [a - table[m][k] * b for a, b in zip(table[m], table[k], strict=True)]
    return [row[-1] for row in table]


def dual_bound(problem, alpha, multipliers):
    """The lower bound on ‖W^α‖² that float multipliers (n, T) prove, without rounding: (Σλ)² / ‖Σ λ_it A_it‖²."""
    known = [Fraction(v) for i, row in enumerate(multipliers.tolist()) for t, v in enumerate(row)
             if t != alpha[i] and problem.visible[i, t]]  # fmt: skip
    assert min(known) >= 0
    return sum(known) ** 2 / squared(combine(constraint_rows(problem, alpha), known))


def least_margin(problem, alpha, W):
    """The smallest margin of a float matrix, without rounding."""
    w = [Fraction(v) for v in np.asarray(W).ravel().tolist()]
    return min(dot(row, w) for row in constraint_rows(problem, alpha))


def combine(rows, multipliers):
    return [sum(m * v for m, v in zip(multipliers, column, strict=True)) for column in zip(*rows, strict=True)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def squared(w):
    return dot(w, w)
