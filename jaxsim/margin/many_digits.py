r"""The att-SVM of a selection that floats do not decide: solved in many digits, proved in whole numbers.

    min ½‖W‖²  subject to  δ_kᵀ W ζ_i ≥ r_k

by the dual active-set method of Goldfarb & Idnani (Mathematical Programming 27, 1983): constraints enter one by one,
each multiplier stays ≥ 0, the active rows stay independent. It ends with all constraints met, or with a row that is a
non-positive combination of the active ones: multipliers of a combination that vanishes (Farkas), so nothing separates.
"""

import dataclasses
import math
from collections.abc import Iterable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from .integers import Certificate, Constraints, TooLarge, certify, dot
from .solution import GAP_TOLERANCE

DIGITS = (100, 1000)  # tried in turn; tokens within 1e-20 of degenerate need the second


@dataclasses.dataclass
class Decided:
    """What was proved: an optimum, where there is a certificate; that nothing separates; or neither.

    Attributes:
        infeasible: whether a combination of the constraints vanishes.
        certificate: of the optimum.
        multipliers: λ_k of the constraints as they were.
        matrix: W, rounded once, where the multipliers are rounded ones.
    """

    infeasible: bool = False
    certificate: Certificate | None = None
    multipliers: Float[np.ndarray, " M"] | None = None
    matrix: Float[np.ndarray, "d e"] | None = None


def decide(constraints: Constraints, guess: Float[np.ndarray, " M"], separable: bool) -> Decided:
    """The optimum of the constraints, or a proof that there is none.

    Args:
        constraints: of one selection.
        guess: multipliers λ ≥ 0 near the optimum, or of a combination that nearly vanishes, or zeros.
        separable: which of the two the guess is held to be.
    """
    start = np.flatnonzero(guess).tolist()
    try:
        if separable and (found := _of_floats(constraints, guess)):
            return found
        for digits in DIGITS:
            with localcontext(_arithmetic(digits)):
                if found := _of_digits(constraints, start, separable, digits):
                    return found
    except (TooLarge, OverflowError):  # too many numbers, or a norm beyond the range of floats
        pass
    return Decided()


def _of_floats(constraints: Constraints, guess: np.ndarray) -> Decided | None:
    """The guess itself where it proves enough."""
    if not guess.any() or not np.isfinite(guess).all():
        return None
    u = {k: Fraction(float(guess[k])) / constraints.demands[k] for k in np.flatnonzero(guess).tolist()}
    return _proved(constraints, u)


def _of_digits(constraints: Constraints, start: list[int], separable: bool, digits: int) -> Decided | None:
    """One run of the active-set method and the proof of what it says; None where there is no proof."""
    method = _Active(constraints, digits)
    try:
        vanishing = None
        if separable:
            method.begin(start)
        else:  # the rows of the guess alone
            vanishing = method.run(start)
            if vanishing is None and constraints.nearly_vanishes(method.multipliers):
                return Decided()
        if vanishing is None:
            vanishing = method.run(range(len(constraints.left)))
    except _TooFewDigits:
        return None
    if vanishing is not None:
        return Decided(infeasible=True) if vanishes(constraints, list(vanishing)) else None
    u = method.multipliers
    found = _proved(constraints, {k: Fraction(value) for k, value in u.items() if value > 0})
    if found is not None and found.certificate is not None:
        found.matrix = constraints.matrix(found.certificate.whole, found.certificate.scale)
    return found


def _proved(constraints: Constraints, u: dict[int, Fraction]) -> Decided | None:
    """The optimum of these multipliers where their certificate is good enough."""
    certificate = certify(constraints, u)
    if certificate is None or certificate.gap > GAP_TOLERANCE:
        return None
    multipliers = np.zeros(len(constraints.left))
    for k, value in certificate.whole.items():
        multipliers[k] = value * constraints.demands[k] / certificate.scale
    return Decided(certificate=certificate, multipliers=multipliers)


def vanishes(constraints: Constraints, rows: list[int]) -> bool:
    """Whether the rows are dependent, exactly, all but the last being independent.

    The determinant of their Gram matrix is a whole number, so it is 0 where it is less than 1 in size; it is computed
    with as many digits as Hadamard's bound on it has, and some.
    """
    digits = 40 + math.ceil(sum(constraints.inner(k, k).bit_length() for k in rows) * math.log10(2))
    constraints.spend(len(rows) ** 3 * (1 + digits // 100))
    with localcontext(_arithmetic(digits)):
        factor = _Factor(constraints)
        for k in rows:
            factor.append(k, *factor.project(k))
        return abs(math.prod(factor.pivots, start=Decimal(1))) < Decimal("0.5")


class _TooFewDigits(Exception):
    """The method goes on for ever, which rounding alone can bring about."""


class _Factor:
    """L D Lᵀ of the Gram matrix of some rows, one row at a time."""

    def __init__(self, constraints: Constraints, digits: int = 100):
        self._constraints, self._weight = constraints, 1 + digits // 100
        self.rows: list[int] = []
        self.pivots: list[Decimal] = []
        self._lower: list[list[Decimal]] = []

    def project(self, k: int) -> tuple[list[Decimal], Decimal]:
        """Row k's part in the factor, and the squared length of what the rows leave of it."""
        self._constraints.spend(self._weight * len(self.rows) ** 2 // 2)
        part = self._forward([Decimal(self._constraints.inner(k, m)) for m in self.rows])
        scaled = [v / pivot for v, pivot in zip(part, self.pivots, strict=True)]
        return scaled, Decimal(self._constraints.inner(k, k)) - dot(part, scaled)

    def append(self, k: int, part: list[Decimal], pivot: Decimal) -> None:
        """Take row k in; the last two as `project` gives them."""
        self.rows.append(k)
        self._lower.append(part)
        self.pivots.append(pivot)

    def without(self, dropped: Iterable[int]) -> "_Factor":
        """The factor of the rows that stay."""
        smaller = _Factor(self._constraints, 100 * (self._weight - 1))
        for k in self.rows:
            if k not in dropped:
                smaller.append(k, *smaller.project(k))
        return smaller

    def combination(self, part: list[Decimal]) -> list[Decimal]:
        """The c with Σ c_j row_j = the projection of the row that has this part."""
        c = list(part)
        for j in reversed(range(len(c))):
            for m in range(j):
                c[m] -= self._lower[j][m] * c[j]
        return c

    def solve(self, values: list[Decimal]) -> list[Decimal]:
        """The u with (Gram matrix) u = values."""
        part = self._forward(values)
        return self.combination([v / pivot for v, pivot in zip(part, self.pivots, strict=True)])

    def _forward(self, values: list[Decimal]) -> list[Decimal]:
        part: list[Decimal] = []
        for value, lower in zip(values, self._lower, strict=True):
            part.append(value - dot(lower, part))
        return part


class _Active:
    """The active-set method: `multipliers` are those of the active rows, which are the rows of the factor."""

    def __init__(self, constraints: Constraints, digits: int):
        self._constraints = constraints
        self._factor = _Factor(constraints, digits)
        self.multipliers: dict[int, Decimal] = {}
        self._nothing = Decimal(10) ** (-digits // 2)  # a squared length beside a row's own
        self._met = 1 - Decimal(10) ** (-digits // 3)  # of a demand
        self._steps = 100 + 20 * len(constraints.left)

    def begin(self, start: list[int]) -> None:
        """Make active those of the rows that are independent and whose equations have a non-negative solution."""
        factor = self._factor
        for k in start:
            part, left = factor.project(k)
            if left > self._nothing * self._constraints.inner(k, k):
                factor.append(k, part, left)
        while True:
            u = factor.solve([Decimal(self._constraints.demands[k]) for k in factor.rows])
            self._factor, self.multipliers = factor, dict(zip(factor.rows, u, strict=True))
            negative = {k for k, value in self.multipliers.items() if value < 0}
            if not negative:
                return
            factor = factor.without(negative)

    def run(self, rows: Iterable[int]) -> dict[int, Decimal] | None:
        """Go on until these constraints are met; or the multipliers of a combination that vanishes."""
        rows = list(rows)
        for k in rows:
            if self._constraints.inner(k, k) == 0:
                return {k: Decimal(1)}
        while (entering := self._worst(rows)) is not None:
            vanishing = self._enter(*entering)
            if vanishing is not None:
                return vanishing
        return None

    def _worst(self, rows: list[int]) -> tuple[int, Decimal] | None:
        """The violated constraint that is farthest from W, and what it lacks; None where all are met."""
        violated, margins = [], self._constraints.margins(self.multipliers)
        for k in rows:
            demand = self._constraints.demands[k]
            if k not in self.multipliers and margins[k] < demand * self._met:
                lack = demand - Decimal(margins[k])
                violated.append((lack * lack / self._constraints.inner(k, k), k, lack))
        if not violated:
            return None
        _, k, lack = max(violated)
        return k, lack

    def _enter(self, k: int, lack: Decimal) -> dict[int, Decimal] | None:
        """Make constraint k active, dropping what blocks; or the multipliers that vanish with it."""
        inner, entered = self._constraints.inner, Decimal(0)
        own = inner(k, k)
        while True:
            self._steps -= 1
            if self._steps < 0:
                raise _TooFewDigits
            factor = self._factor
            part, left = factor.project(k)
            c = dict(zip(factor.rows, factor.combination(part), strict=True))
            c = {j: v for j, v in c.items() if v * v * inner(j, j) > self._nothing**2 * own}
            blocking = min(((self.multipliers[j] / v, j) for j, v in c.items() if v > 0), default=None)
            full = lack / left if left > self._nothing * own else None
            steps = [step for step in (full, blocking and blocking[0]) if step is not None]
            if not steps:
                return {**{j: -v for j, v in c.items()}, k: Decimal(1)}
            step = min(steps)
            for j, v in c.items():
                self.multipliers[j] -= step * v
            entered += step
            lack -= step * left if full is not None else 0
            if blocking is None or step == full:
                factor.append(k, part, left)
                self.multipliers[k] = entered
                return None
            del self.multipliers[blocking[1]]
            self._factor = factor.without({blocking[1]})


def _arithmetic(digits: int) -> Context:
    return Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN)
