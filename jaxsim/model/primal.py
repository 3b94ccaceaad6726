"""Primal coordinates: the core of W on orthonormal bases of the tokens and of the queries; and W itself."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsim.model.rows import beyond, inside, rows_of, sums
from jaxsim.model.spaces import Primal, PrimalEntry, host
from jaxsim.problem import Problem


class PrimalFrame:
    """ξ = the core U_xᵀ W U_z, flattened queries first; a basis is the identity where it spans everything."""

    kind: str = "primal"
    whole: bool = False  # on identity matrices, whatever the tokens span

    def __init__(self, problem: Problem, dtype: Any = np.float64):
        self._rows = rows_of(problem, self.whole)
        self.size = self._rows.means.shape[1] * self._rows.queries.shape[1]
        self.rank, self.ambient = self.size, math.prod(problem.weights)

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


class FullFrame(PrimalFrame):
    """W itself, for rules that act on its entries."""

    kind: str = "full"
    whole: bool = True
