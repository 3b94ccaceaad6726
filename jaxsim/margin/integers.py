r"""Constraints in whole numbers: what is claimed of them can be checked without rounding.

Every float is a whole number over a power of two, so every constraint (x_iα - x_it)ᵀ W z_i ≥ 1 is, without error,

    δ_kᵀ W ζ_i ≥ r_k   with whole δ_k and ζ_i, and r_k a power of two.

Multipliers u_k ≥ 0 of these rows stand for λ_k = u_k r_k of the constraints as they were.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from operator import mul
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.problem import Problem

from .solution import SUPPORT_TOLERANCE

MOST_OPERATIONS = 10**7  # on numbers of up to 100 digits, for one selection: some seconds
ROUNDING = "1e-15"  # of the size of tokens and queries: a combination of constraints as small as that says nothing


class TooLarge(Exception):
    """More arithmetic than MOST_OPERATIONS is needed."""


@dataclasses.dataclass(eq=False)
class Constraints:
    """The constraints of one selection.

    Attributes:
        left: δ_k, M rows of whole numbers.
        owner: the sequence i of each.
        right: ζ_i of every sequence.
        demands: r_k.
        squares: of the larger of ‖x_iα‖ and ‖x_it‖, in the units of δ_k.
    """

    left: list[list[int]]
    owner: list[int]
    right: "Right"
    demands: list[int]
    squares: list[int]
    _operations: int = 0
    _inner: dict[tuple[int, int], int] = dataclasses.field(default_factory=dict)

    def spend(self, operations: int) -> None:
        """Count what is about to be done; TooLarge where that is too much."""
        self._operations += operations
        if self._operations > MOST_OPERATIONS:
            raise TooLarge

    def inner(self, k: int, m: int) -> int:
        """The inner product of rows k and m in the space of W."""
        key = (k, m) if k < m else (m, k)
        if key not in self._inner:
            self.spend(len(self.left[k]))
            self._inner[key] = dot(self.left[k], self.left[m]) * self.right.product(self.owner[k], self.owner[m])
        return self._inner[key]

    def margins(self, u: Mapping[int, Any]) -> list[Any]:
        """δ_kᵀ W ζ_i for every k, where W = Σ u_k δ_k ζ_iᵀ; exact for whole u, else in the arithmetic of u."""
        moments = self._moments(u)
        if not moments:
            return [0] * len(self.left)
        owners = set(self.owner)
        self.spend((len(self.left) + len(owners) * len(moments)) * len(self.left[0]))
        columns = list(zip(*moments.values(), strict=True))
        images = {}  # W ζ_i
        for i in owners:
            products = [self.right.product(i, j) for j in moments]
            images[i] = [dot(products, column) for column in columns]
        return [dot(row, images[i]) for row, i in zip(self.left, self.owner, strict=True)]

    def nearly_vanishes(self, u: Mapping[int, Decimal]) -> bool:
        """Whether Σ u_k δ_k ζ_iᵀ is less than changes of all x and z by ROUNDING of their sizes may add up to."""
        margins, reach = self.margins(u), Decimal(0)
        for k, value in u.items():
            i = self.owner[k]
            reach += 2 * value * Decimal(self.squares[k] * self.right.product(i, i)).sqrt()
        return dot(list(u.values()), [margins[k] for k in u]) < (Decimal(ROUNDING) * reach) ** 2

    def matrix(self, u: Mapping[int, int], scale: int) -> Float[np.ndarray, "d e"]:
        """Σ u_k δ_k ζ_iᵀ / scale for whole u, every entry rounded once."""
        moments = self._moments(u)
        self.spend(len(moments) * len(self.left[0]) * len(self.right.rows[0]))
        rows = zip(*moments.values(), strict=True)
        columns = list(zip(*(self.right.rows[i] for i in moments), strict=True))
        return np.array([[dot(row, column) / scale for column in columns] for row in rows])

    def _moments(self, u: Mapping[int, Any]) -> dict[int, list]:
        """Σ_k u_k δ_k of each sequence."""
        self.spend(len(u) * len(self.left[0]))
        moments: dict[int, list] = {}
        for k, value in u.items():
            scaled = [value * entry for entry in self.left[k]]
            known = moments.get(self.owner[k])
            moments[self.owner[k]] = scaled if known is None else [a + b for a, b in zip(known, scaled, strict=True)]
        return moments


class Right:
    """ζ_i and their inner products, each computed once."""

    def __init__(self, rows: list[list[int]]):
        self.rows = rows
        self._products: dict[tuple[int, int], int] = {}

    def product(self, i: int, j: int) -> int:
        """ζ_i · ζ_j."""
        key = (i, j) if i < j else (j, i)
        if key not in self._products:
            self._products[key] = dot(self.rows[i], self.rows[j])
        return self._products[key]


class WholeNumbers:
    """The keys and queries of a problem as whole numbers, computed once for all selections.

    Raises:
        TooLarge: where there are too many of them.
    """

    def __init__(self, problem: Problem):
        if problem.keys.size + problem.queries.size > MOST_OPERATIONS:
            raise TooLarge
        self._visible = problem.visible
        keys = [_whole(sequence) for sequence in problem.keys * self._visible[:, :, None]]
        queries = [_whole(query[None]) for query in problem.queries]
        self._keys, self._right = [rows for rows, _ in keys], Right([rows[0] for rows, _ in queries])
        self._squares = [[dot(token, token) for token in tokens] for tokens in self._keys]
        self._scales = [a * b for (_, a), (_, b) in zip(keys, queries, strict=True)]

    def constraints(self, alpha: Int[np.ndarray, " n"]) -> Constraints:
        """Those of one selection, in the order of (i, t)."""
        left, owner, squares = [], [], []
        for i, tokens in enumerate(self._keys):
            selected, squares_here = tokens[alpha[i]], self._squares[i]
            for t in np.flatnonzero(self._visible[i]).tolist():
                if t != alpha[i]:
                    left.append([a - b for a, b in zip(selected, tokens[t], strict=True)])
                    owner.append(i)
                    squares.append(max(squares_here[alpha[i]], squares_here[t]))
        return Constraints(left, owner, self._right, [self._scales[i] for i in owner], squares)


def constraints_of_rows(rows: Float[np.ndarray, "M d"]) -> Constraints:
    """The constraints rows · w ≥ 1."""
    if rows.size > MOST_OPERATIONS:
        raise TooLarge
    whole = [_whole(row[None]) for row in rows]
    left = [row[0] for row, _ in whole]
    squares = [dot(row, row) for row in left]
    return Constraints(left, [0] * len(rows), Right([[1]]), [scale for _, scale in whole], squares)


@dataclasses.dataclass
class Certificate:
    """What multipliers prove, computed without rounding.

    Attributes:
        norm: ‖W‖ of W = Σ u_k δ_k ζ_iᵀ, scaled so that its least margin is 1.
        gap: relative gap between ‖W‖² and the dual bound.
        active: which margins are within SUPPORT_TOLERANCE of 1.
        whole, scale: u_k = whole_k / scale.
    """

    norm: float
    gap: float
    active: Bool[np.ndarray, " M"]
    whole: dict[int, int]
    scale: int


def certify(constraints: Constraints, u: Mapping[int, Fraction]) -> Certificate | None:
    """What the multipliers u ≥ 0 prove; None where their W does not separate.

    (Σ u_k r_k)² / ‖W‖²  ≤  ‖W^α‖²  ≤  ‖W‖² / least margin²
    """
    scale = math.lcm(*(value.denominator for value in u.values()))
    whole = {k: value.numerator * (scale // value.denominator) for k, value in u.items() if value}
    margins, largest = constraints.margins(whole), max(constraints.demands)
    relative = [m * (largest // r) for m, r in zip(margins, constraints.demands, strict=True)]
    least, one = min(relative), scale * largest  # `one` is a margin of 1 in the units of `relative`
    if least <= 0:
        return None
    squared = sum(value * margins[k] for k, value in whole.items())
    total = sum(value * constraints.demands[k] for k, value in whole.items())
    reached = Fraction(total * least, squared * largest)  # the root of lower bound over upper bound
    limit = 1 + Fraction(SUPPORT_TOLERANCE)
    active = np.array([m * limit.denominator <= least * limit.numerator for m in relative])
    norm = _root(squared) * Fraction(one, least) / scale
    scaled = {k: value * one for k, value in whole.items()}
    return Certificate(float(norm), float(1 - reached * reached), active, scaled, scale * least)


def dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    """Σ a_k b_k."""
    return sum(map(mul, a, b))


def _whole(values: Float[np.ndarray, "N d"]) -> tuple[list[list[int]], int]:
    """Whole numbers and one power of two that the values are their quotients by."""
    parts = [[v.as_integer_ratio() for v in row] for row in values.tolist()]
    scale = max(denominator for row in parts for _, denominator in row)
    return [[number * (scale // denominator) for number, denominator in row] for row in parts], scale


def _root(square: int) -> Fraction:
    """The square root of a whole number, to 64 digits and more of base 2."""
    shift = max(0, 64 - square.bit_length() // 2)
    return Fraction(math.isqrt(square << 2 * shift), 1 << shift)
