"""Polyak's step size."""

from typing import Any

import jax.numpy as jnp

from jaxsim._numbers import numbers
from jaxsim.rules.base import Defaults, pytree, register, step_size, times, zeros_per_lane


@register
@pytree
class Polyak(Defaults):
    r"""Polyak's step size, with a bound on the step length.

        W ← W - scale · (L(W) - L*) / ‖∇L(W)‖_F² · ∇L(W),   ‖step‖_F ≤ max_step

    Where every sequence attends to its optimal token, gap and gradient vanish together and the step length
    settles. In a local basin L - L* stays positive while ∇L vanishes, and the uncapped step explodes: the rule
    throws the run out of the basin. The cap keeps that finite; each step that it shortens is counted.

    Args:
        scale: factor on the step, above 0, or a schedule.
        optimal_loss: L*. None: the infimum of the model's loss, for a fixed decoder (1/n) Σ_i ℓ(s_{i,opt}). A
            number that equals the infimum to rounding is taken as the infimum.
        max_step: bound on the Frobenius norm of one step (convention of this project).

    Reference:
        Polyak's step as used in arXiv 2402.05738.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.Polyak()
        Polyak(scale=1, optimal_loss=None, max_step=1000)
    """

    scale: Any = 1.0
    optimal_loss: Any = None
    max_step: Any = 1000.0

    name = "polyak"
    stepped_because = "its steps do not shrink with the gradient, and W turns within a few of them"

    def __post_init__(self):
        object.__setattr__(self, "scale", step_size("scale", self.scale))
        object.__setattr__(self, "max_step", step_size("max_step", self.max_step))
        if self.optimal_loss is not None:
            object.__setattr__(self, "optimal_loss", numbers("optimal_loss", self.optimal_loss))

    @property
    def native(self):
        """See Rule."""
        return ("POLYAK", (self.scale, self.max_step)) if self.optimal_loss is None else None

    def init(self, params):
        """The number of shortened steps so far."""
        return zeros_per_lane(params)

    def update(self, gradient, state, step):
        """The scales of gap and gradient enter as their difference, which is 0 on an optimal run."""
        norm, log_scale = gradient.scaled_norm
        gap, gap_log_scale = gradient.gap, gradient.gap_log_scale
        if self.optimal_loss is not None:
            above = gradient.infimum - self.optimal_loss
            exact = jnp.abs(above) <= 8 * jnp.finfo(gap.dtype).eps * jnp.abs(gradient.infimum)
            gap = jnp.where(exact, gap, jnp.maximum(jnp.exp(gap_log_scale) * gap + above, 0.0))
            gap_log_scale = jnp.where(exact, gap_log_scale, 0.0)
        wanted = self.scale(step, gap.dtype) * gap / norm * jnp.exp(gap_log_scale - log_scale)
        wanted = jnp.where(norm == 0, 0.0, wanted)  # no gradient, no step
        length = jnp.minimum(wanted, self.max_step(step, gap.dtype))
        increments = tuple(
            times(-length / jnp.where(norm == 0, 1.0, norm) * jnp.exp(b.log_scale - log_scale), b.direction)
            for b in gradient.blocks
        )
        return increments, jnp.where(wanted > length, state + 1, state)

    def report(self, state):
        """How many steps were shortened to max_step."""
        return {"capped_steps": state}
