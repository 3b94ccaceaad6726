"""The att-SVM of small problems in rational arithmetic: every active set is tried, and rounding decides nothing."""

import dataclasses
import itertools
from fractions import Fraction

import mpmath
import numpy as np


@dataclasses.dataclass(frozen=True)
class Reference:
    """W^α without error: `rows` are the constraint matrices, flat, and `multipliers` theirs; None where infeasible.

    `fragile` where some combination of constraints is smaller than changes of the data by 1e-15 may make it.
    """

    rows: list[list[Fraction]]
    multipliers: list[Fraction] | None
    fragile: bool

    @property
    def norm(self):
        """‖W^α‖ to 50 digits; inf where infeasible."""
        if self.multipliers is None:
            return mpmath.inf
        with mpmath.workdps(50):
            square = squared(combine(self.rows, self.multipliers))
            return mpmath.sqrt(_real(square))


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
    rows, found, fragile = constraint_rows(problem, alpha), None, False
    for size in range(1, len(rows) + 1):
        for active in itertools.combinations(range(len(rows)), size):
            multipliers = equations([[dot(rows[k], rows[m]) for m in active] for k in active])
            if multipliers is None or min(multipliers) < 0:
                continue
            full = [Fraction(0)] * len(rows)
            for k, value in zip(active, multipliers, strict=True):
                full[k] = value
            w = combine(rows, full)
            fragile = fragile or _real(squared(w)) <= (1 + 1e-9) * reach(problem, alpha, full) ** 2
            if found is None and all(dot(row, w) >= 1 for row in rows):
                found = full
    return Reference(rows, found, fragile)


def reach(problem, alpha, multipliers):
    """How far changes of tokens and queries by 1e-15 of their sizes move Σ λ_it (x_iα - x_it) z_iᵀ."""
    total = mpmath.mpf(0)
    lengths = [[length(token) for token in tokens] for tokens in problem.keys.tolist()]
    pairs = [(i, t) for i in range(len(alpha)) for t in np.flatnonzero(problem.visible[i]) if t != alpha[i]]
    for value, (i, t) in zip(multipliers, pairs, strict=True):
        size = 2 * max(lengths[i][alpha[i]], lengths[i][t]) * length(problem.queries[i].tolist())
        total += _real(value) * size
    return total * mpmath.mpf(10) ** -15


def length(vector):
    return mpmath.sqrt(mpmath.fsum(mpmath.mpf(v) ** 2 for v in vector))


def norm_of_two(problem, alpha, name):
    """N(W^α) of a problem with two constraints a, b, in any norm: 1 / min over λ of N*(λ₁ a + λ₂ b) / (λ₁ + λ₂).

    By golden sections over log(λ₁/λ₂), to 1e-33, in arithmetic of 120 digits; only for separable selections.
    """
    with mpmath.workdps(120):
        a, b = ([mpmath.mpf(v.numerator) / v.denominator for v in row] for row in constraint_rows(problem, alpha))

        def ratio(s):
            weight = mpmath.exp(s)
            pull = [weight * x + y for x, y in zip(a, b, strict=True)]
            return dual_norm(pull, problem.W_shape, name) / (weight + 1)

        low, high, golden = mpmath.mpf(-180), mpmath.mpf(180), (mpmath.sqrt(5) - 1) / 2
        left, right = high - golden * (high - low), low + golden * (high - low)
        at_left, at_right = ratio(left), ratio(right)
        for _ in range(170):
            if at_left <= at_right:
                high, right, at_right = right, left, at_left
                left = high - golden * (high - low)
                at_left = ratio(left)
            else:
                low, left, at_left = left, right, at_right
                right = low + golden * (high - low)
                at_right = ratio(right)
        return 1 / min(at_left, at_right)


def dual_norm(entries, shape, name):
    """N* of a flat matrix, from the definitions."""
    if name in ("l1", "linf"):
        sizes = [abs(v) for v in entries]
        return max(sizes) if name == "l1" else mpmath.fsum(sizes)
    if name == "frobenius":
        return mpmath.sqrt(mpmath.fsum(v * v for v in entries))
    matrix = mpmath.matrix([entries[k * shape[1] : (k + 1) * shape[1]] for k in range(shape[0])])
    squares = mpmath.eigsy(matrix * matrix.T, eigvals_only=True)
    singular = [mpmath.sqrt(max(v, 0)) for v in squares]
    return max(singular) if name == "nuclear" else mpmath.fsum(singular)


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


def _real(fraction):
    return mpmath.mpf(fraction.numerator) / fraction.denominator


def squared(w):
    return dot(w, w)
