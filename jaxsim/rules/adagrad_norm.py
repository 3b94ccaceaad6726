"""AdaGrad with one step size for the whole gradient."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxsim._check import positive_number
from jaxsim._numbers import numbers
from jaxsim.model.sums import Exact
from jaxsim.rules.base import Defaults, pytree, register, step_size, times, zeros_per_lane


@register
@pytree
class AdaGradNorm(Defaults):
    """AdaGrad-norm: one step size, divided by the root of the sum of all squared gradient norms.

        b² ← b² + ‖∇L(W)‖²,   W ← W - η ∇L(W) / b

    The sum is over all blocks and carried as its logarithm. Along a run that goes to infinity it has a limit, so that
    steps come to be those of gradient descent, and direction errors fall like 1/log t.

    Args:
        eta: step size η above 0, or a schedule.
        b0: b at the start, above 0.

    Reference:
        Ward, Wu, Bottou 2019, arXiv 1806.01811.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.AdaGradNorm(0.5)
        AdaGradNorm(eta=0.5, b0=1.0)
    """

    eta: Any
    b0: Any = 1.0

    name = "adagrad-norm"
    predicts = "inverse-log"
    stepped_because = None

    def __post_init__(self):
        object.__setattr__(self, "eta", step_size("eta", self.eta))
        object.__setattr__(self, "b0", numbers("b0", self.b0, positive_number))

    @property
    def native(self):
        """See Rule."""
        return "ADAGRAD_NORM", (self.eta,)

    def init(self, params):
        """Log b per lane, and what rounding has left out of it."""
        leaf = jax.tree.leaves(params)[0]
        return Exact(jnp.full(leaf.shape[-1:], jnp.log(jnp.asarray(self.b0, leaf.dtype))), zeros_per_lane(params))

    def update(self, gradient, state, step):
        """-(η / b) ∇; log b grows by log(1 + ‖∇‖²/b²) / 2, which is far below the rounding of log b late in a run."""
        eta = self.eta(step, gradient.gap.dtype)
        log_b = state.plus(0.5 * jax.nn.softplus(2 * ((gradient.log_norm - state.value) - state.residual)))
        factors = [jnp.exp((b.log_scale - log_b.value) - log_b.residual) for b in gradient.blocks]
        moved = tuple(times(-eta * f, b.direction) for f, b in zip(factors, gradient.blocks, strict=True))
        return moved, log_b

    def report(self, state):
        """B at the end, as its logarithm to base 10."""
        return {"log10_b": state.value / jnp.log(jnp.asarray(10.0, state.value.dtype))}
