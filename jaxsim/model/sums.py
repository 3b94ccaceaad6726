"""Sums that forget nothing: a number below double precision and the rounding error that goes with it."""

from typing import Any

import jax
from jaxtyping import Array

from jaxsim._tree import pytree


def add_exactly(x: Array, residual: Array, increment: Array) -> tuple[Array, Array]:
    """The sum x + (increment + residual) and the rounding error of that sum, exactly (Knuth's two-sum)."""
    y = increment + residual
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)


@pytree
class Exact:
    """A number and what rounding has left out of it."""

    value: Array
    residual: Array

    def plus(self, increment: Array) -> "Exact":
        """The sum, nothing forgotten."""
        return Exact(*add_exactly(self.value, self.residual, increment))

    def minus(self, other: "Exact") -> Array:
        """The difference, in which the values cancel."""
        return (self.value - other.value) + (self.residual - other.residual)


def _exact(x: Any) -> bool:
    return isinstance(x, Exact)


def rounded(tree: Any) -> Any:
    """The tree in plain numbers, an array for every `Exact`."""
    return jax.tree.map(lambda x: x.value + x.residual if _exact(x) else x, tree, is_leaf=_exact)


def plus(tree: Any, increments: Any) -> Any:
    """Tree + increments, which has an array where the tree has an `Exact`."""
    return jax.tree.map(lambda x, y: x.plus(y) if _exact(x) else x + y, tree, increments, is_leaf=_exact)


def minus(tree: Any, other: Any) -> Any:
    """Tree - other, an array for every `Exact`."""
    return jax.tree.map(lambda x, y: x.minus(y) if _exact(x) else x - y, tree, other, is_leaf=_exact)
