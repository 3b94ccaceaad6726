"""Primal coordinates: the core of W on orthonormal bases of the tokens and of the queries."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxsim._fold import total
from jaxsim._tree import Part, pytree
from jaxsim.coordinates.base import host, product, terms
from jaxsim.coordinates.rows import beyond, inside, rows_of, sums
from jaxsim.problem import Problem


class PrimalFrame:
    """ξ = the core U_xᵀ W U_z, flattened queries first; a basis is the identity where it spans everything."""

    kind: str = "primal"
    whole: bool = False  # on identity matrices, whatever the tokens span

    def __init__(self, problem: Problem, dtype: Any = np.float64):
        self._rows = rows_of(problem, self.whole)
        self.size = self._rows.means.shape[1] * self._rows.queries.shape[1]
        self.rank, self.ambient = self.size, math.prod(problem.W_shape)

    def space(self, dtype):
        """See Frame."""
        lengths = np.linalg.norm(self._rows.centred, axis=2) * np.linalg.norm(self._rows.queries, axis=1)[:, None]
        return Primal(*host(dtype, self._rows.centred, self._rows.queries, lengths[:, :, None]))

    def project(self, W):
        """See Frame."""
        xi = inside(W, *self.bases)
        return xi, xi, beyond(W, xi, self)

    def begin(self, xi):
        """See Frame."""
        return xi

    def entry(self, dtype):
        """See Frame."""
        return PrimalEntry()

    def locate(self, start, position):
        """See Frame."""
        return np.broadcast_to(position, np.broadcast_shapes(start.shape, position.shape))

    def coefficients(self, position):
        """See Frame."""
        return None

    def combine(self, coeffs):
        """See Frame."""
        rows = self._rows
        moved = np.einsum("kit,itx->kix", coeffs, rows.centred) + sums(coeffs)[:, :, None] * rows.means
        return np.einsum("kix,iz->kzx", moved, rows.queries).reshape(len(coeffs), -1)

    def logits(self, xi):
        """See Frame. Products of one run at a time, which come out the same whatever stands beside it."""
        core = xi.reshape(*xi.shape[:-1], self._rows.queries.shape[1], -1)
        keys = self._rows.queries @ core  # (…, n, r_x)
        return (self._rows.tokens @ keys[..., None])[..., 0]

    @property
    def span(self):
        """See Frame."""
        return np.eye(self.size)

    @property
    def bases(self) -> tuple[Float[np.ndarray, "d r_x"], Float[np.ndarray, "e r_z"]]:
        """Orthonormal bases of the tokens and of the queries."""
        return self._rows.token_basis, self._rows.query_basis

    def lift(self, xi):
        """See Frame."""
        core = xi.reshape(self._rows.queries.shape[1], -1)
        return self._rows.token_basis @ core.T @ self._rows.query_basis.T


@pytree
class Primal:
    """The r_x × r_z core of W, with centred tokens and queries in their own bases."""

    tokens: Float[Part, "n T r_x"]
    queries: Float[Part, "n r_z"]
    lengths: Float[Part, "n T 1"]  # of the centred rows

    def enter(self, start):
        """`start` holds the core, flattened."""
        return {"core": start.reshape(self.queries.shape[1], self.tokens.shape[2], -1)}

    def logits(self, params):
        """x̃_itᵀ C z̃_i, queries first: n (r_x r_z + T r_x) multiply-adds."""
        core = params["core"]
        r_z, r_x, lanes = core.shape
        keys = product(self.queries, core.reshape(r_z, r_x * lanes)).reshape(-1, r_x, lanes)
        return lax.dot_general(self.tokens, keys, (((2,), (1,)), ((0,), (0,))), precision=lax.Precision.HIGHEST)

    def pull(self, g):
        """Σ g_it z̃_i x̃_itᵀ."""
        values = lax.dot_general(self.tokens, g, (((1,), (1,)), ((0,), (0,))), precision=lax.Precision.HIGHEST)
        n, r_x, lanes = values.shape
        core = product(self.queries.T, values.reshape(n, r_x * lanes)).reshape(-1, r_x, lanes)
        norm = jnp.sqrt(total(core * core, 0, 1)[0, 0])
        return {"core": core}, norm, terms(g, self.lengths, jnp.ones((), g.dtype))

    @staticmethod
    def inner(a, b):
        """The product of the cores."""
        return total(a["core"] * b["core"], 0, 1)[0, 0]

    def position(self, params):
        """The core, flattened."""
        return params["core"].reshape(-1, params["core"].shape[-1])


@pytree
class PrimalEntry:
    """The core is its own start vector."""

    def __call__(self, xi: Float[Array, "lanes size"]) -> tuple[Array, Array]:
        """(ξ, ξ)."""
        return xi, xi
