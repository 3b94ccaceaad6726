r"""Exact coordinates for W: the dynamics need n·T or r_x·r_z numbers per run, never d × d.

With Φ the N × d² matrix of rows vec(x_it z_iᵀ), N = n·T, every rule that moves W by combinations of gradients
stays in W_0 + span(Φᵀ). Two isometric descriptions of that span, the cheaper one chosen per problem:

    dual    W = W_0 + Φᵀ c, carried as logits a and coefficients c; one product with K = ΦΦᵀ a step
    primal  the core U_xᵀ W U_z (r_x × r_z) on orthonormal bases of the tokens and of the queries

Σ_t g_it = 0 in every sequence, so the device works with tokens less their sequence's mean (`rows`): nothing changes
but the rounding, which a large common part would spoil. `DualFrame` and `PrimalFrame` hold the float64 host side:
bases, projections, lifts. Their `space(dtype)` is what runs on the device. Both describe W by Euclidean coordinates ξ:
|ξ| is the Frobenius norm of the part of W inside the span.
"""

import copy
import math
from typing import Any, Literal, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsim import _machine
from jaxsim._basis import orthonormal_basis, units
from jaxsim.model.rows import in_core, rows_of
from jaxsim.model.spaces import Dual, DualEntry, Factored, Primal, PrimalEntry, Space, host
from jaxsim.problem import Problem

ROWS = 1152  # of one product: a whole number of every register tile, for one thread or several
SAFE = 100  # ‖∇L‖² from the Gram matrix has at least this many times the size of its rounding
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

    def coefficients(self, position: np.ndarray) -> Float[np.ndarray, "... n T"] | None:
        """c, where a position holds it."""
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
        self.ambient = math.prod(problem.weights)
        rounding = SAFE * len(centred) * np.finfo(dtype).eps
        self.factored = _least_cosine(centred, rows.seen) <= rounding if factored is None else factored
        self._axes = turn @ orthonormal_basis(centred)  # of the centred span, in ξ

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
        return xi[:, 0], self.begin(xi[:, 0]), _outside(W, xi[:, 0], self)

    @property
    def bases(self) -> tuple[Float[np.ndarray, "d r_x"], Float[np.ndarray, "e r_z"]]:
        """See PrimalFrame."""
        return self._rows.token_basis, self._rows.query_basis

    def begin(self, xi):
        """See Frame."""
        return _rows_times(xi, self.axes)

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
            return start + _rows_times(position - self.begin(start), self._axes.T)
        return start + _rows_times(position, self._centred.T)

    def coefficients(self, position):
        """See Frame."""
        return None if self.factored else position.reshape(*position.shape[:-1], *self.shape)

    def combine(self, coeffs):
        """See Frame."""
        flat, whole = coeffs.reshape(len(coeffs), -1), sums(coeffs)
        return flat @ self._centred.T + whole @ self._mean.T

    def logits(self, xi):
        """See Frame."""
        return _rows_times(xi, self._raw).reshape(*xi.shape[:-1], *self.shape)

    def lift(self, xi):
        """See Frame."""
        left, right = self.bases
        core = (self._isometry @ xi).reshape(right.shape[1], left.shape[1])
        return left @ core.T @ right.T


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


def frame_of(problem: Problem, kind: Literal["dual", "primal", "full"] | None = None, dtype: Any = np.float64) -> Frame:
    """The frame of a problem for runs in a dtype; by default the one with fewer multiply-adds per step."""
    if kind not in (None, "dual", "primal", "full"):
        raise ValueError(f"coordinates: expected 'dual', 'primal', 'full' or None for the cheapest; got {kind!r}")
    if kind is None:
        n, T, _ = problem.shape
        d, e = problem.weights
        r_x, r_z = min(d, n * T), min(e, n)
        primal = PRIMAL_OVERHEAD * 2 * n * r_x * (r_z + T)
        kind = "dual" if (n * T) ** 2 <= primal else "primal"
    _check_memory(problem, kind)
    return {"dual": DualFrame, "primal": PrimalFrame, "full": FullFrame}[kind](problem, dtype)


def _check_memory(problem: Problem, kind: str) -> None:
    """Refuse a frame whose matrices cannot fit, before they are made."""
    n, T, _ = problem.shape
    d, e = problem.weights
    if kind == "dual":
        advice = f'; {DUAL_MATRICES} matrices of (n·T)² numbers. Coordinates "primal" need none'
        _machine.need("problem", DUAL_MATRICES * 8 * (n * T) ** 2, f"(n·T)² = {n * T:,}² numbers", advice)
    elif kind == "full":
        _machine.need("problem", 8 * (d * d + e * e), f"whole matrices of {d:,} × {e:,} numbers")


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
