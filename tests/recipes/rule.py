"""Clipped gradient descent: W ← W - η min(1, bound/‖∇L‖) ∇L. Steps are no longer than η · bound."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsim
from jaxsim.rules import Stateless, pytree, step_size, times


@jaxsim.register
@pytree
class Clipped(Stateless):
    eta: Any
    bound: Any = 1.0

    name = "clipped"

    def __post_init__(self):
        for field in ("eta", "bound"):  # a number or a schedule; bad values are refused by name
            object.__setattr__(self, field, step_size(field, getattr(self, field)))

    def update(self, gradient, state, step):
        """A gradient is e^log_scale · direction, with ‖direction‖ = norm. A block that is zero stays where it is."""
        increments = []
        for block in gradient.blocks:
            bound = self.bound(step, block.norm.dtype) / jnp.where(block.norm == 0, 1.0, block.norm)
            size = self.eta(step, block.norm.dtype) * jnp.minimum(jnp.exp(block.log_scale), bound)
            increments.append(times(-size, block.direction))
        return tuple(increments), state


problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
how = dict(key=jax.random.key(1), lanes=8, steps=100)
wide, gd, tight = (
    jaxsim.simulate(problem, rule, jaxsim.init.Zero(), **how)
    for rule in (Clipped(1.0, bound=1e3), jaxsim.rules.GD(1.0), Clipped(1.0, bound=1e-6))
)
np.testing.assert_allclose(wide.norm, gd.norm, rtol=1e-5)  # a bound that no gradient reaches changes nothing
assert (tight.norm <= 1e-6 * tight.steps * (1 + 1e-5)).all()  # and no step is longer than η · bound
