"""What a rule sees: gradients whose magnitude is carried apart from their direction."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsim._fold import total
from jaxsim._tree import pytree, static

ROUNDING = 16  # times the rounding of a sum over tokens: a gradient below that is none
Tree = Any  # a pytree of arrays whose last axis runs over lanes


def euclidean(a: Tree, b: Tree) -> Float[Array, " lanes"]:
    """The sum of products of all entries, lane by lane."""
    products = jax.tree.map(lambda x, y: total(x * y, *range(x.ndim - 1)).reshape(x.shape[-1:]), a, b)
    return sum(jax.tree.leaves(products))  # type: ignore[return-value]


@pytree
class Block:
    """The gradient of one group of parameters: ∇ = exp(log_scale) · direction, with ‖direction‖ = norm.

    `direction` is a tree like the parameters; the norm is the one in parameter space, which reduced
    coordinates need not show. `inner` is the inner product of parameter space for two such trees. `terms`, where the
    model gives it, is the norm that the terms of the sum would have at right angles: a norm that is nothing beside it
    is what rounding left.
    """

    direction: Tree
    log_scale: Float[Array, " lanes"]
    norm: Float[Array, " lanes"]
    inner: Callable[[Tree, Tree], Float[Array, " lanes"]] = static(default=euclidean)
    terms: Float[Array, " lanes"] | None = None


def nothing_below(terms: int, dtype: Any) -> float:
    """The logarithm of the largest cancellation that rounding alone explains in a sum of so many terms."""
    return float(np.log(ROUNDING * terms * np.finfo(dtype).eps))


@pytree
class Gradient:
    """∇L by blocks, and the loss gap L - L* = exp(gap_log_scale) · gap, in scales that do not underflow.

    L* is the infimum of the loss that the model documents, `infimum` its value.
    """

    blocks: tuple[Block, ...]
    gap: Float[Array, " lanes"]
    gap_log_scale: Float[Array, " lanes"]
    infimum: Float[Array, "*lanes"]

    @property
    def scaled_norm(self) -> tuple[Float[Array, " lanes"], Float[Array, " lanes"]]:
        """‖∇L‖ over all blocks as (norm, log scale), ‖∇L‖ = exp(log scale) · norm."""
        return self._over_blocks([block.norm for block in self.blocks])

    def _over_blocks(self, sizes: list[Any]) -> tuple[Float[Array, " lanes"], Float[Array, " lanes"]]:
        if len(self.blocks) == 1:
            return sizes[0], self.blocks[0].log_scale
        scale = jnp.stack([block.log_scale for block in self.blocks]).max(0)
        scaled = [jnp.exp(b.log_scale - scale) * size for b, size in zip(self.blocks, sizes, strict=True)]
        return jnp.sqrt(jnp.stack([x * x for x in scaled]).sum(0)), scale

    @property
    def log_cancellation(self) -> Float[Array, " lanes"]:
        """The logarithm of ‖∇L‖ over the size of its terms: at the level of rounding, the run is at a minimum."""
        norm, terms = self.scaled_norm[0], self._over_blocks([block.terms for block in self.blocks])[0]
        return jnp.where(norm == 0, -jnp.inf, jnp.log(norm) - jnp.log(terms))

    @property
    def log_norm(self) -> Float[Array, " lanes"]:
        """Log ‖∇L‖ over all blocks."""
        norm, log_scale = self.scaled_norm
        return log_scale + jnp.log(norm)

    @property
    def log_gap(self) -> Float[Array, " lanes"]:
        """log(L - L*)."""
        return self.gap_log_scale + jnp.log(self.gap)
