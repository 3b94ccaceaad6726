"""Gradient descent with the root of the norm taken out."""

from typing import Any

import jax.numpy as jnp

from jaxsim.rules.base import Stateless, pytree, register, step_size, times


@register
@pytree
class RootNormDescent(Stateless):
    """A rule between gradient descent and its normalised form.

        W ← W - η ∇L(W) / √‖∇L(W)‖_F

    Args:
        eta: step size η above 0, or a schedule.

    Reference:
        Convention of this project.
    """

    eta: Any

    name = "root-norm-descent"

    def __post_init__(self):
        object.__setattr__(self, "eta", step_size("eta", self.eta))

    def update(self, gradient, state, step):
        """-η √(e^κ / ‖direction‖) · direction."""
        eta = self.eta(step, gradient.gap.dtype)
        factor = [jnp.exp(b.log_scale / 2) / jnp.sqrt(jnp.where(b.norm == 0, 1.0, b.norm)) for b in gradient.blocks]
        moved = (times(-eta * f, b.direction) for f, b in zip(factor, gradient.blocks, strict=True))
        return tuple(moved), state
