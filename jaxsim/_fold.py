"""Reductions over small leading axes by halving: elementwise operations that a compiler fuses.

XLA's own reductions on a CPU write their operand to memory first and stop vectorising inside; at n·T numbers a lane
they would cost as much as the exponentials.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def fold(op: Callable[[Array, Array], Array], x: Array, axes: tuple[int, ...]) -> Array:
    """Reduce `x` over consecutive axes by an associative `op`, keeping them with length 1."""
    shape = x.shape[: axes[0]] + (1,) * len(axes) + x.shape[axes[-1] + 1 :]
    axis = axes[0]
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axes[-1] + 1 :])
    left_over = []
    while (size := x.shape[axis]) > 1:
        half = size // 2
        if size % 2:
            left_over.append(lax.slice_in_dim(x, size - 1, size, axis=axis))
        x = op(lax.slice_in_dim(x, 0, half, axis=axis), lax.slice_in_dim(x, half, 2 * half, axis=axis))
    for part in left_over:
        x = op(x, part)
    return x.reshape(shape)


def largest(x: Array, *axes: int) -> Array:
    """Maximum over `axes`, kept with length 1."""
    return fold(jnp.maximum, x, axes)


def smallest(x: Array, *axes: int) -> Array:
    """Minimum over `axes`, kept with length 1."""
    return fold(jnp.minimum, x, axes)


def total(x: Array, *axes: int) -> Array:
    """Σ over `axes`, kept with length 1."""
    return fold(jnp.add, x, axes)
