r"""The tokens and queries of a problem in orthonormal bases, in float64, so that a common part of them costs nothing.

A token is x_it = x̄_i + x̃_it, its sequence's mean and the rest. The dynamics see x̃ alone, because Σ_t g_it = 0 in every
sequence; raw logits, norms and random starts see both. With a common part of size 10⁸ the two must be found apart: x̃
from differences of tokens, which are exact, and bases from rows of x̃ and of differences of means and queries, each
brought to length 1, beside the means themselves. A basis of the raw rows would hold x̃ only to the rounding of x̄.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsim._basis import orthonormal_basis
from jaxsim.problem import Problem

ROWS = 1152  # of one product: a whole number of every register tile, for one thread or several
FEWER = 192  # the same of a small matrix, by one thread
SMALL = 2**16  # entries of a matrix, below which rows that are empty cost more than products that are short


@dataclasses.dataclass(frozen=True)
class Rows:
    """Coordinates of one problem; what is hidden is zero.

    Attributes:
        token_basis: of the span of all tokens, (d, r_x).
        query_basis: of the span of all queries, (e, r_z).
        centred: x̃, (n, T, r_x).
        means: x̄, (n, r_x).
        means_apart: x̄_i - x̄_0, with the digits that the difference has, (n, r_x).
        queries: z, (n, r_z).
        queries_apart: z_i - z_0, likewise, (n, r_z).
        seen: True where a token exists, (n, T).
    """

    token_basis: Float[np.ndarray, "d r_x"]
    query_basis: Float[np.ndarray, "e r_z"]
    centred: Float[np.ndarray, "n T r_x"]
    means: Float[np.ndarray, "n r_x"]
    means_apart: Float[np.ndarray, "n r_x"]
    queries: Float[np.ndarray, "n r_z"]
    queries_apart: Float[np.ndarray, "n r_z"]
    seen: np.ndarray

    @property
    def tokens(self) -> Float[np.ndarray, "n T r_x"]:
        """x_it = x̄_i + x̃_it."""
        return (self.centred + self.means[:, None]) * self.seen[:, :, None]


def rows_of(problem: Problem, whole: bool = False) -> Rows:
    """The coordinates of a problem, or with `whole` its own ones, on identity matrices."""
    x, z, seen = problem.keys, problem.queries, problem.visible
    first = x[np.arange(len(x)), seen.argmax(1)]
    apart = (x - first[:, None]) * seen[:, :, None]
    middle = apart.sum(1) / seen.sum(1, keepdims=True)
    centred = (apart - middle[:, None]) * seen[:, :, None]
    means, means_apart = first + middle, (first - first[0]) + (middle - middle[0])
    queries_apart = z - z[0]
    if whole:
        left, right = np.eye(x.shape[2]), np.eye(z.shape[1])
    else:
        left = orthonormal_basis(np.concatenate([centred.reshape(-1, x.shape[2]), means, means_apart[1:]]))
        right = orthonormal_basis(np.concatenate([z, queries_apart[1:]]))
    return Rows(
        left, right, centred @ left, means @ left, means_apart @ left, z @ right, queries_apart @ right, seen
    )  # fmt: skip


def in_core(rows: Float[np.ndarray, "... r_x"], queries: Float[np.ndarray, "... r_z"]) -> np.ndarray:
    """The core of x zᵀ, flattened queries first: (…, r_z · r_x)."""
    core = queries[..., :, None] * rows[..., None, :]
    return core.reshape(*core.shape[:-2], -1)


def inside(
    W: Float[np.ndarray, "lanes d e"], left: Float[np.ndarray, "d r_x"], right: Float[np.ndarray, "e r_z"]
) -> Float[np.ndarray, "lanes p"]:
    """The core U_xᵀ W U_z, flattened queries first; one lane at a time, so that none depends on the others."""
    core = np.matmul(np.matmul(left.T, W), right)
    return core.swapaxes(1, 2).reshape(len(W), -1)


def sums(coeffs: Float[np.ndarray, "k n T"]) -> Float[np.ndarray, "k n"]:
    """Σ_t c_it, which is zero where rounding is all that is left of it: a large mean must not magnify that."""
    whole = coeffs.sum(2)
    rounding = 4 * coeffs.shape[2] * np.finfo(float).eps * np.abs(coeffs).sum(2)
    return np.where(np.abs(whole) <= rounding, 0.0, whole)


def rows_times(x: Float[np.ndarray, "... p"], matrix: Float[np.ndarray, "p q"]) -> Float[np.ndarray, "... q"]:
    """Multiply by slices of one fixed shape, so that a row comes out the same whatever stands beside it."""
    rows = x.reshape(-1, x.shape[-1])
    product, size = np.empty((len(rows), matrix.shape[1])), FEWER if matrix.size < SMALL else ROWS
    for k in range(0, len(rows), size):
        part = rows[k : k + size]
        full = part if len(part) == size else np.concatenate([part, np.zeros((size - len(part), rows.shape[1]))])
        product[k : k + size] = (full @ matrix)[: len(part)]
    return product.reshape(*x.shape[:-1], -1)


def beyond(W: np.ndarray, xi: np.ndarray, frame: Any) -> np.ndarray:
    """‖W‖² - |ξ|², by projection and not by subtraction, so that it cannot be negative."""
    if frame.rank == frame.ambient:
        return np.zeros(len(W))
    return np.array([np.sum((w - frame.lift(x)) ** 2) for w, x in zip(W, xi, strict=True)])
