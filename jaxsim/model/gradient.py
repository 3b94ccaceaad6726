"""What a rule sees: gradients whose magnitude is carried apart from their direction."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsim._tree import pytree, static
from jaxsim.model.fold import total

Tree = Any  # a pytree of arrays whose last axis runs over lanes


def euclidean(a: Tree, b: Tree) -> Float[Array, " lanes"]:
    """The sum of products of all entries, lane by lane."""
    products = jax.tree.map(lambda x, y: total(x * y, *range(x.ndim - 1)).reshape(x.shape[-1:]), a, b)
    return sum(jax.tree.leaves(products))  # type: ignore[return-value]


@pytree
class Block:
    """The gradient of one group of parameters: ∇ = exp(log_scale) · direction, with ‖direction‖ = norm.

    `direction` is a tree like the parameters; the norm is the one in parameter space, which reduced
    coordinates need not show. `inner` is the inner product of parameter space for two such trees.
    """

    direction: Tree
    log_scale: Float[Array, " lanes"]
    norm: Float[Array, " lanes"]
    inner: Callable[[Tree, Tree], Float[Array, " lanes"]] = static(default=euclidean)


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
        if len(self.blocks) == 1:
            return self.blocks[0].norm, self.blocks[0].log_scale
        scale = jnp.stack([block.log_scale for block in self.blocks]).max(0)
        squares = [(jnp.exp(block.log_scale - scale) * block.norm) ** 2 for block in self.blocks]
        return jnp.sqrt(jnp.stack(squares).sum(0)), scale

    @property
    def log_norm(self) -> Float[Array, " lanes"]:
        """Log ‖∇L‖ over all blocks."""
        norm, log_scale = self.scaled_norm
        return log_scale + jnp.log(norm)

    @property
    def log_gap(self) -> Float[Array, " lanes"]:
        """log(L - L*)."""
        return self.gap_log_scale + jnp.log(self.gap)
