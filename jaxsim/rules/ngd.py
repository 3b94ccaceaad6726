"""Normalised gradient descent."""

from typing import Any

import jax.numpy as jnp

from jaxsim.rules.base import Constant, Stateless, pytree, register, step_size, times


@register
@pytree
class NGD(Stateless):
    """Normalised gradient descent.

        W ← W - η ∇L(W) / ‖∇L(W)‖_F

    The log scale of the gradient cancels, so the step is exact at any depth; there is no eps in the norm. With
    several blocks of parameters each is normalised on its own; one whose gradient is exactly zero stays where it is.

    Args:
        eta: step length η above 0 (Frobenius norm of the step), or a schedule.

    Reference:
        arXiv 2402.05738 and 2308.16898.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.NGD(0.1)
        NGD(eta=0.1)
    """

    eta: Any

    name = "ngd"
    keeps_pace = True

    def __post_init__(self):
        object.__setattr__(self, "eta", step_size("eta", self.eta))

    @property
    def stepped_because(self) -> str | None:
        """See Rule."""
        return None if isinstance(self.eta, Constant) else "the length of its steps is its schedule's"

    @property
    def step_length(self) -> float | None:
        """η, where it is constant."""
        return float(self.eta.value) if isinstance(self.eta, Constant) else None

    @property
    def native(self):
        """See Rule."""
        return "NGD", (self.eta,)

    def update(self, gradient, state, step):
        """-(η / ‖direction‖) · direction."""
        eta = self.eta(step, gradient.gap.dtype)
        return tuple(times(jnp.where(b.norm == 0, 0.0, -eta / b.norm), b.direction) for b in gradient.blocks), state
