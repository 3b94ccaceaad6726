r"""Exact coordinates for W: the dynamics need n·T or r_x·r_z numbers per run, never d × d.

With Φ the N × d² matrix of rows vec(x_it z_iᵀ), N = n·T, every rule that moves W by combinations of gradients
stays in W_0 + span(Φᵀ). Two isometric descriptions of that span, the cheaper one chosen per problem:

    dual    W = W_0 + Φᵀ c, carried as logits a and coefficients c; one product with K = ΦΦᵀ a step
    primal  the core U_xᵀ W U_z (r_x × r_z) on orthonormal bases of the tokens and of the queries

Σ_t g_it = 0 in every sequence, so the device works with tokens less their sequence's mean: nothing changes but the
rounding, which a large common part would spoil. `DualFrame` and `PrimalFrame` hold the float64 host side: bases,
projections, lifts. Their `space(dtype)` is what runs on the device. Both describe W by Euclidean coordinates ξ: |ξ| is
the Frobenius norm of the part of W inside the span.
"""

import math
from typing import Any, Literal, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsim import _machine
from jaxsim._basis import orthonormal_basis
from jaxsim.model.spaces import Dual, DualEntry, Primal, PrimalEntry, Space, host
from jaxsim.problem import Problem

ROWS = 1152  # of one product: a whole number of every register tile, for one thread or several
DUAL_MATRICES = 6  # that a dual frame holds at once
PRIMAL_OVERHEAD = 2.0  # small batched products cost about twice the flops of one large one


class Frame(Protocol):
    """The float64 host side: how W and the Euclidean coordinates ξ of a space translate."""

    kind: str  # "dual", "primal" or "full"
    size: int  # length of ξ
    rank: int  # dimension of the span that ξ describes
    ambient: int  # d², the dimension of the whole of W

    def space(self, dtype: Any) -> Space:
        """The device side in the run's dtype, its leaves still on the host."""
        ...

    def project(self, W: Float[np.ndarray, "lanes d e"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ξ, the start vector and ‖W outside‖² of given matrices, each with lanes first."""
        ...

    def begin(self, xi: Float[np.ndarray, "lanes size"]) -> np.ndarray:
        """Start vectors of ξ."""
        ...

    def entry(self, dtype: Any) -> DualEntry | PrimalEntry:
        """From random ξ to their part inside the span and start vectors; on the device."""
        ...

    def locate(self, start: np.ndarray, position: np.ndarray) -> np.ndarray:
        """ξ (…, size) from ξ_0 (…, size) and a position (…, p)."""
        ...

    def combine(self, coeffs: Float[np.ndarray, "k n T"]) -> Float[np.ndarray, "k size"]:
        """ξ of the matrices Σ_it μ_it x_it z_iᵀ."""
        ...

    def logits(self, xi: Float[np.ndarray, "... size"]) -> Float[np.ndarray, "... n T"]:
        """a_it of the part of W inside the span, which is all that logits see."""
        ...

    def lift(self, xi: Float[np.ndarray, " size"]) -> Float[np.ndarray, "d e"]:
        """The matrix that ξ describes."""
        ...

    @property
    def span(self) -> Float[np.ndarray, "rank size"]:
        """An orthonormal basis of the ξ that occur."""
        ...


class DualFrame:
    """ξ = C^{1/2} D c, where D holds the norms of the rows of Φ and C = D⁻¹ΦΦᵀD⁻¹ their cosines.

    The symmetric root makes draws independent of a library's choice of eigenvectors; the cosines keep rows of very
    different size, each with its own precision.
    """

    kind: str = "dual"

    def __init__(self, problem: Problem):
        n, T, _ = problem.shape
        self._tokens, self._queries = visible_keys(problem), problem.queries
        centre = centring(problem)
        z = np.repeat(self._queries, T, axis=0)
        flat, centred = self._tokens.reshape(n * T, -1), (centre @ self._tokens).reshape(n * T, -1)
        self.gram = (centred @ centred.T) * (z @ z.T)
        norms = np.linalg.norm(flat, axis=1) * np.linalg.norm(z, axis=1)
        self._norms = np.where(norms > 0, norms, 1.0)
        cosines = (flat @ flat.T) * (z @ z.T) / self._norms / self._norms[:, None]
        values, vectors = np.linalg.eigh(cosines)
        keep = values > values[-1] * len(values) * np.finfo(float).eps
        root, vectors = np.sqrt(values[keep]), vectors[:, keep]
        self._root = (vectors * root) @ vectors.T * self._norms  # ξ = root c, logits = rootᵀ ξ
        self._inverse_root = (vectors / root) @ vectors.T / self._norms[:, None]  # c = inverse_root ξ
        self._projector = vectors @ vectors.T
        self.span = vectors.T
        blocks = np.zeros((n, T, n, T))
        blocks[np.arange(n), :, np.arange(n), :] = centre
        self._centre = blocks.reshape(n * T, n * T)
        self.shape = (n, T)
        self.size, self.rank, self.ambient = n * T, int(keep.sum()), math.prod(problem.weights)

    def space(self, dtype):
        """See Frame."""
        gram, size = host(dtype, self.gram, np.sqrt(np.abs(self.gram).max()))
        return Dual(gram, size, self.shape)

    def project(self, W):
        """See Frame."""
        logits = np.einsum("itd,lde,ie->lit", self._tokens, W, self._queries, optimize=True).reshape(len(W), -1)
        xi = logits @ self._inverse_root
        return xi, logits @ self._centre.T, _outside(W, xi, self)

    def begin(self, xi):
        """See Frame."""
        return _rows_times(xi, self._root @ self._centre.T)

    def entry(self, dtype):
        """See Frame."""
        projector = None if self.rank == self.size else jnp.asarray(self._projector, dtype)
        return DualEntry(jnp.asarray(self._root @ self._centre.T, dtype), projector)

    def projection(self, dtype: Any) -> list[Any]:
        """The arrays of `entry`, on the host and the projector always among them."""
        return host(dtype, self._root @ self._centre.T, self._projector)

    def locate(self, start, position):
        """See Frame. Coefficients sum to zero in every sequence; the centring removes what rounding left of the sum."""
        return start + _rows_times(position, (self._root @ self._centre).T)

    def combine(self, coeffs):
        """See Frame."""
        return coeffs.reshape(len(coeffs), -1) @ self._root.T

    def logits(self, xi):
        """See Frame."""
        return _rows_times(xi, self._root).reshape(*xi.shape[:-1], *self.shape)

    def lift(self, xi):
        """See Frame."""
        coeffs = (self._inverse_root @ xi).reshape(self.shape)
        return np.einsum("it,itd,ie->de", coeffs, self._tokens, self._queries, optimize=True)


class PrimalFrame:
    """ξ = the core U_xᵀ W U_z, flattened queries first; a basis is the identity where it spans everything."""

    kind: str = "primal"

    @staticmethod
    def _span(vectors: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "d r"]:
        return orthonormal_basis(vectors)

    def __init__(self, problem: Problem):
        n, T, _ = problem.shape
        tokens = visible_keys(problem)
        self._token_basis = self._span(tokens.reshape(n * T, -1))
        self._query_basis = self._span(problem.queries)
        self._tokens, self._queries = tokens @ self._token_basis, problem.queries @ self._query_basis
        self._centred = centring(problem) @ tokens @ self._token_basis
        self.size = self._tokens.shape[2] * self._queries.shape[1]
        self.rank, self.ambient = self.size, math.prod(problem.weights)

    def space(self, dtype):
        """See Frame."""
        return Primal(*host(dtype, self._centred, self._queries))

    def project(self, W):
        """See Frame."""
        core = np.einsum("dx,lde,ez->lzx", self._token_basis, W, self._query_basis, optimize=True)
        xi = core.reshape(len(W), -1)
        return xi, xi, _outside(W, xi, self)

    def begin(self, xi):
        """See Frame."""
        return xi

    def entry(self, dtype):
        """See Frame."""
        return PrimalEntry()

    def locate(self, start, position):
        """See Frame."""
        return np.broadcast_to(position, np.broadcast_shapes(start.shape, position.shape))

    def combine(self, coeffs):
        """See Frame."""
        core = np.einsum("kit,itx,iz->kzx", coeffs, self._tokens, self._queries, optimize=True)
        return core.reshape(len(coeffs), -1)

    def logits(self, xi):
        """See Frame."""
        core = xi.reshape(*xi.shape[:-1], self._queries.shape[1], -1)
        return np.einsum("itx,...zx,iz->...it", self._tokens, core, self._queries, optimize=True)

    @property
    def span(self):
        """See Frame."""
        return np.eye(self.size)

    @property
    def bases(self) -> tuple[Float[np.ndarray, "d r_x"], Float[np.ndarray, "e r_z"]]:
        """Orthonormal bases of the tokens and of the queries."""
        return self._token_basis, self._query_basis

    def lift(self, xi):
        """See Frame."""
        core = xi.reshape(self._queries.shape[1], -1)
        return self._token_basis @ core.T @ self._query_basis.T


class FullFrame(PrimalFrame):
    """W itself, for rules that act on its entries."""

    kind: str = "full"

    @staticmethod
    def _span(vectors):
        return np.eye(vectors.shape[1])


def frame_of(problem: Problem, kind: Literal["dual", "primal", "full"] | None = None) -> Frame:
    """The frame of a problem; by default the one with fewer multiply-adds per step."""
    if kind not in (None, "dual", "primal", "full"):
        raise ValueError(f"coordinates: expected 'dual', 'primal', 'full' or None for the cheapest; got {kind!r}")
    if kind is None:
        n, T, _ = problem.shape
        d, e = problem.weights
        r_x, r_z = min(d, n * T), min(e, n)
        primal = PRIMAL_OVERHEAD * 2 * n * r_x * (r_z + T)
        kind = "dual" if (n * T) ** 2 <= primal else "primal"
    _check_memory(problem, kind)
    return {"dual": DualFrame, "primal": PrimalFrame, "full": FullFrame}[kind](problem)


def _check_memory(problem: Problem, kind: str) -> None:
    """Refuse a frame whose matrices cannot fit, before they are made."""
    n, T, _ = problem.shape
    d, e = problem.weights
    if kind == "dual":
        advice = f'; {DUAL_MATRICES} matrices of (n·T)² numbers. Coordinates "primal" need none'
        _machine.need("problem", DUAL_MATRICES * 8 * (n * T) ** 2, f"(n·T)² = {n * T:,}² numbers", advice)
    elif kind == "full":
        _machine.need("problem", 8 * (d * d + e * e), f"whole matrices of {d:,} × {e:,} numbers")


def visible_keys(problem: Problem) -> Float[np.ndarray, "n T d"]:
    """The keys, zero where hidden: what a mask hides must not matter."""
    return problem.keys * problem.visible[:, :, None]


def centring(problem: Problem) -> Float[np.ndarray, "n T T"]:
    """Per sequence, the matrix that takes the mean over visible tokens away; zero rows at hidden ones."""
    v = problem.visible.astype(float)
    return np.eye(v.shape[1]) * v[:, :, None] - v[:, :, None] * v[:, None, :] / v.sum(1)[:, None, None]


def _rows_times(x: Float[np.ndarray, "... p"], matrix: Float[np.ndarray, "p q"]) -> Float[np.ndarray, "... q"]:
    """Multiply by slices of one fixed shape, so that a row comes out the same whatever stands beside it."""
    rows = x.reshape(-1, x.shape[-1])
    product = np.empty((len(rows), matrix.shape[1]))
    for k in range(0, len(rows), ROWS):
        part = rows[k : k + ROWS]
        full = part if len(part) == ROWS else np.concatenate([part, np.zeros((ROWS - len(part), rows.shape[1]))])
        product[k : k + ROWS] = (full @ matrix)[: len(part)]
    return product.reshape(*x.shape[:-1], -1)


def _outside(W: np.ndarray, xi: np.ndarray, frame: Frame) -> np.ndarray:
    """‖W‖² - |ξ|², by projection and not by subtraction, so that it cannot be negative."""
    if frame.rank == frame.ambient:
        return np.zeros(len(W))
    return np.array([np.sum((w - frame.lift(x)) ** 2) for w, x in zip(W, xi, strict=True)])


def least_norm_coefficients(
    frame: Frame, moved: Float[np.ndarray, "... size"], n: int, T: int
) -> Float[np.ndarray, "... n T"]:
    """The smallest c with Σ_it c_it x_it z_iᵀ = what `moved` describes; a bad lane stays in its own row."""
    rows = frame.combine(np.eye(n * T).reshape(n * T, n, T))
    return (moved @ np.linalg.pinv(rows)).reshape(*moved.shape[:-1], n, T)
