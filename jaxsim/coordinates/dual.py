"""Dual coordinates: W = W_0 + Φᵀc, by logits and coefficients or, where rows depend on each other, on a basis."""

import copy
import dataclasses
import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxsim._basis import orthonormal_basis, units
from jaxsim._fold import total
from jaxsim._tree import Part, pytree, static
from jaxsim.coordinates.base import host, product, terms
from jaxsim.coordinates.rows import beyond, in_core, inside, rows_of, rows_times, sums
from jaxsim.problem import Problem

SAFE = 100  # ‖∇L‖² from the Gram matrix has at least this many times the size of its rounding


class DualFrame:
    """ξ: coordinates of the span of all rows x_it z_iᵀ, as many as there are rows, on an isometry P of the span.

    P is the polar factor of the rows brought to length 1 (for independent rows C^{-1/2} of their cosines C), which
    makes draws independent of a library's choice of eigenvectors. It is taken inside a basis of centred rows and
    means, so that it holds each to its own rounding.

    The device carries logits and coefficients c, with K the Gram matrix of the centred rows, where gᵀKg = ‖∇L‖² cannot
    come out negative: where the least eigenvalue of their cosines, for g that sum to zero in every sequence, is above
    the rounding of the product. Elsewhere, where rows depend on each other and L may have an interior minimum, it
    carries coordinates on a basis of the centred span, and the norm is that of a vector.

    Args:
        problem: the data.
        dtype: the run's dtype, whose rounding counts.
        factored: whether the device carries coordinates; None to decide by the rows.
    """

    kind: str = "dual"

    def __init__(self, problem: Problem, dtype: Any = np.float64, factored: bool | None = None):
        n, T, _ = problem.shape
        rows = self._rows = rows_of(problem)
        queries = np.repeat(rows.queries[:, None], T, 1)
        centred = in_core(rows.centred, queries).reshape(n * T, -1)
        means = in_core(rows.means, rows.queries)
        apart = in_core(rows.means_apart, rows.queries) + in_core(rows.means[:1], rows.queries_apart)
        basis = orthonormal_basis(np.concatenate([centred, means, apart[1:]]))
        centred, means = centred @ basis, means @ basis
        raw = (centred.reshape(n, T, -1) + means[:, None]) * rows.seen[:, :, None]
        left, _, right = np.linalg.svd(units(raw.reshape(n * T, -1)), full_matrices=False)
        turn = left @ right  # ξ = turn · coordinates on the basis
        self._isometry = basis @ turn.T
        self._raw, self._centred = turn @ raw.reshape(n * T, -1).T, turn @ centred.T  # logits = ξᵀ raw
        self._mean = turn @ means.T
        self._projector = turn @ turn.T
        self.span = turn.T
        self.gram = centred @ centred.T
        self.shape, self.size, self.rank = (n, T), n * T, basis.shape[1]
        self.ambient = math.prod(problem.W_shape)
        rounding = SAFE * len(centred) * np.finfo(dtype).eps
        self.factored = _least_cosine(centred, rows.seen) <= rounding if factored is None else factored

    @functools.cached_property
    def _axes(self) -> Float[np.ndarray, "size p"]:
        """A basis of the centred span, in ξ; made only where it is needed."""
        return self.span.T @ orthonormal_basis((self.span @ self._centred).T)

    @property
    def axes(self) -> Float[np.ndarray, "size p"]:
        """From ξ to start vectors: ξ @ axes."""
        return self._axes if self.factored else self._centred

    def with_factor(self) -> "DualFrame":
        """The same, factored, with as many axes as tokens, so that problems of one shape fit together; ξ stay."""
        other = copy.copy(self)
        other.factored, other._axes = True, np.zeros((self.size, self.size))
        other._axes[:, : self._axes.shape[1]] = self._axes
        return other

    def space(self, dtype):
        """See Frame."""
        lengths = np.sqrt(np.diagonal(self.gram)).reshape(*self.shape, 1)
        if self.factored:
            factor, size, lengths = host(dtype, self._centred.T @ self._axes, lengths.max(), lengths)
            return Factored(factor, size, lengths, self.shape)
        gram, size, lengths = host(dtype, self.gram, np.sqrt(np.abs(self.gram).max()), lengths)
        return Dual(gram, size, lengths, self.shape)

    def project(self, W):
        """See Frame."""
        xi = inside(W, *self.bases)[:, None] @ self._isometry  # lane by lane, so that none depends on the others
        return xi[:, 0], self.begin(xi[:, 0]), beyond(W, xi[:, 0], self)

    @property
    def bases(self) -> tuple[Float[np.ndarray, "d r_x"], Float[np.ndarray, "e r_z"]]:
        """See PrimalFrame."""
        return self._rows.token_basis, self._rows.query_basis

    def begin(self, xi):
        """See Frame."""
        return rows_times(xi, self.axes)

    def entry(self, dtype):
        """See Frame."""
        projector = None if self.rank == self.size else jnp.asarray(self._projector, dtype)
        return DualEntry(jnp.asarray(self.axes, dtype), projector)

    def projection(self, dtype: Any) -> list[Any]:
        """The arrays of `entry`, on the host and the projector always among them."""
        return host(dtype, self.axes, self._projector)

    def locate(self, start, position):
        """See Frame."""
        if self.factored:
            return start + rows_times(position - self.begin(start), self._axes.T)
        return start + rows_times(position, self._centred.T)

    def coefficients(self, position):
        """See Frame."""
        return None if self.factored else position.reshape(*position.shape[:-1], *self.shape)

    def combine(self, coeffs):
        """See Frame."""
        flat, whole = coeffs.reshape(len(coeffs), -1), sums(coeffs)
        return flat @ self._centred.T + whole @ self._mean.T

    def logits(self, xi):
        """See Frame."""
        return rows_times(xi, self._raw).reshape(*xi.shape[:-1], *self.shape)

    def lift(self, xi):
        """See Frame."""
        left, right = self.bases
        core = (self._isometry @ xi).reshape(right.shape[1], left.shape[1])
        return left @ core.T @ right.T


def _least_cosine(centred: Float[np.ndarray, "N r"], seen: np.ndarray) -> float:
    """The least of |Σ g_k row_k|² / Σ |g_k|²|row_k|² over g that sum to zero in every sequence."""
    n, T = seen.shape
    length = np.linalg.norm(centred, axis=1)
    inverse = np.where(length > 0, 1 / np.where(length > 0, length, 1.0), 0.0).reshape(n, 1, T)
    scale = inverse.max((1, 2), keepdims=True)
    free = np.linalg.svd(inverse / np.where(scale > 0, scale, 1.0))[2][:, 1:]  # of |row| g, in every sequence
    rows = (free @ units(centred).reshape(n, T, -1)).reshape(n * (T - 1), -1)
    count = int((seen.sum(1) - 1).sum())
    singular = np.linalg.svd(rows, compute_uv=False)
    return float(singular[count - 1] ** 2) if count <= len(singular) else 0.0


@pytree
class Dual:
    """Centred logits and coefficients, with the Gram matrix of the centred rows, and the root of its largest entry.

    One of each for all lanes, or one for each of several equal groups of lanes that belong to different problems. Where
    the Gram matrix is made of equal blocks on its diagonal, one of them.
    """

    gram: Float[Part, "*groups N N"]
    size: Float[Part, "*lanes"]
    lengths: Float[Part, "n T #lanes"]  # of the centred rows
    shape: tuple[int, int] = static()

    def enter(self, start):
        """`start` holds the logits."""
        logits = start.reshape(*self.shape, -1)
        return {"logits": logits, "coeffs": jnp.zeros_like(logits)}

    def logits(self, params):
        """Carried, not computed."""
        return params["logits"]

    def repeated(self, blocks: int) -> "Dual":
        """The same of a Gram matrix that is made of so many equal blocks."""
        N = self.gram.shape[-1] // blocks
        return dataclasses.replace(self, gram=self.gram[:N, :N])

    def pull(self, g):
        """(K g, g), and the norm √(gᵀ K g), in units in which the squares of small tokens do not underflow."""
        # Turned: the matrices of groups are symmetric, and this way round their products are faster.
        parts = g.reshape(-1, self.gram.shape[-1], g.shape[-1])
        products = [product(self.gram, part, turned=self.gram.ndim > 2) for part in parts]
        Kg = jnp.concatenate(products).reshape(g.shape)
        unit = 1 / self.size
        squared = total(g * (Kg * unit * unit), 0, 1)[0, 0]
        return {"logits": Kg, "coeffs": g}, self.size * jnp.sqrt(squared), terms(g, self.lengths, self.size)

    @staticmethod
    def inner(a, b):
        """Cᵀ K c'."""
        return total(a["coeffs"] * b["logits"], 0, 1)[0, 0]

    def position(self, params):
        """c, flattened."""
        return params["coeffs"].reshape(math.prod(self.shape), -1)


@pytree
class Factored:
    """Coordinates on a basis of the centred span, with the centred rows in that basis, and their largest entry.

    As `Dual`, one matrix for all lanes or one for each of several equal groups of lanes.
    """

    factor: Float[Part, "*groups N p"]
    size: Float[Part, "*lanes"]
    lengths: Float[Part, "n T #lanes"]  # of the centred rows
    shape: tuple[int, int] = static()

    def enter(self, start):
        """`start` holds the coordinates."""
        return {"axes": start}

    def logits(self, params):
        """F p."""
        return product(self.factor, params["axes"]).reshape(*self.shape, -1)

    def pull(self, g):
        """Fᵀ g and its length, in units in which the squares of small tokens do not underflow."""
        flat, unit = g.reshape(self.factor.shape[-2], -1), 1 / self.size
        pulled = product(self.factor, flat, turned=True)
        norm = self.size * jnp.sqrt(total((pulled * unit) ** 2, 0)[0])
        return {"axes": pulled}, norm, terms(g, self.lengths, self.size)

    @staticmethod
    def inner(a, b):
        """The product of the coordinates."""
        return total(a["axes"] * b["axes"], 0)[0]

    def position(self, params):
        """The coordinates."""
        return params["axes"]


@pytree
class DualEntry:
    """Random ξ to their part inside the span and the centred logits at step 0; on the device."""

    root: Float[Array, "*problems N p"]
    projector: Float[Array, "*problems N N"] | None

    def __call__(self, xi: Float[Array, "lanes N"]) -> tuple[Array, Array]:
        """(ξ inside, centred logits)."""
        precision = lax.Precision.HIGHEST
        inside = xi if self.projector is None else jnp.dot(xi, self.projector, precision=precision)
        return inside, jnp.dot(xi, self.root, precision=precision)
