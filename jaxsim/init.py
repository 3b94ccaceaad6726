"""Initialisation laws of W_0, drawn in reduced coordinates.

A law on the whole d × d space reduces to its coordinates ξ on an orthonormal basis of the row space of Φ (r
numbers) and the squared norm of the rest, so a start at d = 4096 costs what one at d = 64 does.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsim._check import finite_array, positive_number
from jaxsim._tree import pytree


class Law(Protocol):
    """How W_0 is distributed, given the coordinates of a standard Gaussian matrix."""

    def place(self, xi: Float[Array, " size"], rest: Float[Array, ""]) -> tuple[Array, Array]:
        """ξ_0 and ‖W_0 outside‖² from standard Gaussian coordinates and a χ² draw for the rest."""
        ...


@pytree
class Gaussian:
    """W_0 with independent N(0, scale²) entries.

    Args:
        scale: standard deviation of an entry, above 0.

    Example:
        >>> import jaxsim
        >>> jaxsim.init.Gaussian(0.5)
        Gaussian(scale=0.5)
    """

    scale: Any = 1.0

    def __post_init__(self):
        _check_number("scale", self.scale)

    def place(self, xi, rest):
        """See Law."""
        return self.scale * xi, self.scale**2 * rest


@pytree
class Sphere:
    """W_0 uniform on the sphere ‖W_0‖_F = radius of the whole d × d space.

    Args:
        radius: Frobenius norm of every start, above 0.
    """

    radius: Any = 1.0

    def __post_init__(self):
        _check_number("radius", self.radius)

    def place(self, xi, rest):
        """See Law."""
        squared = self.radius**2 / (jnp.sum(xi * xi) + rest)
        return jnp.sqrt(squared) * xi, squared * rest


@pytree
class Zero:
    """W_0 = 0 in every lane."""

    def place(self, xi, rest):
        """See Law."""
        return jnp.zeros_like(xi), jnp.zeros_like(rest)


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """Starts given as arrays.

    Args:
        W0: one matrix (d, e) for every lane, or one per lane (lanes, d, e); finite. In self-attention e = d.
    """

    W0: Any

    def __post_init__(self):
        W = np.asarray(self.W0)
        if W.ndim not in (2, 3):
            raise ValueError(f"W0: expected shape (d, e) or (lanes, d, e); got {W.shape}")
        object.__setattr__(self, "W0", finite_array("W0", W, (None,) * W.ndim, "(d, e) or (lanes, d, e)"))

    def matrices(self, lanes: np.ndarray, total: int, shape: tuple[int, int]) -> Float[np.ndarray, "lanes d e"]:
        """The starts of the lanes with these indices, out of `total`, for weights of this shape."""
        if self.W0.shape[-2:] != shape:
            raise ValueError(f"W0: expected matrices {shape}; got {self.W0.shape[-2:]}")
        if self.W0.ndim == 2:
            return np.broadcast_to(self.W0, (len(lanes), *shape))
        if len(self.W0) != total:
            raise ValueError(f"W0: expected one matrix per lane, {total}; got {len(self.W0)}")
        return self.W0[lanes]


@dataclasses.dataclass(frozen=True, eq=False)
class Factors:
    """Starts of K and Q given as arrays, for key-query training.

    Args:
        K0: one matrix (d, m) for every lane, or one per lane (lanes, d, m); finite.
        Q0: likewise (e, m) or (lanes, e, m).
    """

    K0: Any
    Q0: Any

    def __post_init__(self):
        for name in ("K0", "Q0"):
            value = np.asarray(getattr(self, name))
            if value.ndim not in (2, 3):
                raise ValueError(f"{name}: expected two or three axes, ([lanes,] d, m); got shape {value.shape}")
            shape: tuple[int | None, ...] = (None,) * value.ndim
            object.__setattr__(self, name, finite_array(name, value, shape, "([lanes,] d, m)"))

    def __repr__(self):
        return f"Factors(K0={self.K0.shape}, Q0={self.Q0.shape})"

    def matrices(self, name: str, lanes: np.ndarray, total: int, shape: tuple[int, int]) -> np.ndarray:
        """K0 or Q0 of the lanes with these indices, out of `total`."""
        value = getattr(self, name)
        if value.shape[-2:] != shape:
            raise ValueError(f"{name}: expected matrices {shape}; got {value.shape[-2:]}")
        if value.ndim == 2:
            return np.broadcast_to(value, (len(lanes), *shape))
        if len(value) != total:
            raise ValueError(f"{name}: expected one matrix per lane, {total}; got {len(value)}")
        return value[lanes]


def _check_number(name: str, value: Any) -> None:
    """Check what a user gives; let pass what JAX rebuilds."""
    if isinstance(value, bool | int | float | str | np.ndarray | np.generic):
        positive_number(name, value)


@functools.partial(jax.jit, static_argnames=("size", "rest", "dtype"))
def draw(
    law: Law,
    key: jax.Array,
    lanes: Int[Array, "blocks width"],
    entry: Callable[[Array], tuple[Array, Array]],
    size: int,
    rest: int,
    dtype: Any,
) -> tuple[Float[Array, "blocks width size"], Float[Array, "blocks width p"], Float[Array, "blocks width"]]:
    """ξ_0, start vectors and ‖W_0 outside‖² of the lanes with these indices.

    Lane i draws from fold_in(key, i) alone: a draw does not depend on how lanes are chunked or extended. Each block
    is computed on its own, because a matrix product rounds differently for another number of rows.

    Args:
        law: the law of W_0.
        key: the JAX key.
        lanes: indices of the lanes, by blocks.
        entry: removes what lies outside the span and gives start vectors (`Frame.entry`).
        size: numbers in ξ.
        rest: dimension of the space outside the span.
        dtype: the run's dtype.
    """

    def one(i):
        inside, outside = jax.random.split(jax.random.fold_in(key, i))
        chi2 = jax.random.chisquare(outside, rest, dtype=dtype) if rest else jnp.zeros((), dtype)
        return jax.random.normal(inside, (size,), dtype), chi2

    return jax.lax.map(lambda indices: _start(law, *jax.vmap(one)(indices), entry), lanes)


@functools.partial(jax.jit, static_argnames=("lanes", "size", "dtype"))
def draw_each(
    law: Law,
    keys: Array,
    entries: Callable[[Array], tuple[Array, Array]],
    rests: Float[Array, " problems"],
    lanes: int,
    size: int,
    dtype: Any,
) -> tuple[Float[Array, "problems lanes size"], Float[Array, "problems lanes p"], Float[Array, "problems lanes"]]:
    """What `draw` gives for the first `lanes` lanes, up to rounding, for many problems, each with its own key.

    Args:
        law: the law of W_0.
        keys: one JAX key per problem.
        entries: `Frame.entry` of each problem, stacked.
        rests: dimension of the space outside the span of each problem.
        lanes: lanes per problem.
        size: numbers in ξ.
        dtype: the run's dtype.
    """

    def problem(inputs):
        key, entry, rest = inputs

        def one(i):
            inside, outside = jax.random.split(jax.random.fold_in(key, i))
            chi2 = jax.random.chisquare(outside, jnp.maximum(rest, 1), dtype=dtype)
            return jax.random.normal(inside, (size,), dtype), jnp.where(rest > 0, chi2, 0.0)

        return _start(law, *jax.vmap(one)(jnp.arange(lanes, dtype=jnp.uint32)), entry)

    return jax.lax.map(problem, (keys, entries, rests))


def _start(law: Law, xi: Array, chi2: Array, entry: Callable[[Array], tuple[Array, Array]]):
    """From standard Gaussian coordinates to ξ_0, start vectors and ‖W_0 outside‖²."""
    xi, _ = entry(xi)
    xi, outside = jax.vmap(law.place)(xi, chi2)
    return xi, entry(xi)[1], outside


@functools.partial(jax.jit, static_argnames=("shape", "dtype"))
def draw_factors(
    scale: Array, key: jax.Array, lanes: Int[Array, " lanes"], shape: tuple[int, int, int], dtype: Any
) -> tuple[Float[Array, "lanes d m"], Float[Array, "lanes e m"]]:
    """K_0 and Q_0 with independent N(0, scale²) entries; lane i draws from fold_in(key, i). `shape` is (d, e, m)."""
    d, e, m = shape

    def one(i):
        left, right = jax.random.split(jax.random.fold_in(key, i))
        return scale * jax.random.normal(left, (d, m), dtype), scale * jax.random.normal(right, (e, m), dtype)

    return jax.vmap(one)(lanes)
