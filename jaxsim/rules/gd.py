"""Gradient descent."""

from typing import Any

import jax.numpy as jnp

from jaxsim.rules.base import Stateless, pytree, register, step_size, times


@register
@pytree
class GD(Stateless):
    """Gradient descent.

        W ← W - η ∇L(W)

    Args:
        eta: step size η above 0, or a schedule: a function of the step number, such as optax's.

    Reference:
        arXiv 2402.05738; on an attention head ‖W‖ grows like log t.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.GD(0.5)
        GD(eta=0.5)
    """

    eta: Any

    name = "gd"
    predicts = "inverse-log"
    stepped_because = None

    def __post_init__(self):
        object.__setattr__(self, "eta", step_size("eta", self.eta))

    @property
    def native(self):
        """See Rule."""
        return "GD", (self.eta,)

    def update(self, gradient, state, step):
        """-η e^c · direction."""
        eta = self.eta(step, gradient.gap.dtype)
        return tuple(times(-eta * jnp.exp(b.log_scale), b.direction) for b in gradient.blocks), state
