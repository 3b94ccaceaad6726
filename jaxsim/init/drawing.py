"""Drawing starts on the device; lane i draws from fold_in(key, i) alone."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxsim.init.laws import Law


@functools.partial(jax.jit, static_argnames=("size", "rest", "dtype"))
def draw(
    law: Law,
    key: jax.Array,
    lanes: Integer[Array, "blocks width"],
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
    scale: Array, key: jax.Array, lanes: Integer[Array, " lanes"], shape: tuple[int, int, int], dtype: Any
) -> tuple[Float[Array, "lanes d m"], Float[Array, "lanes e m"]]:
    """K_0 and Q_0 with independent N(0, scale²) entries; lane i draws from fold_in(key, i). `shape` is (d, e, m)."""
    d, e, m = shape

    def one(i):
        left, right = jax.random.split(jax.random.fold_in(key, i))
        return scale * jax.random.normal(left, (d, m), dtype), scale * jax.random.normal(right, (e, m), dtype)

    return jax.vmap(one)(lanes)
