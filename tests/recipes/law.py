"""Gaussian starts G, those outside a ball brought to its surface: W_0 = G min(1, radius/‖G‖)."""

from typing import Any

import jax
import jax.numpy as jnp

import jaxsim
from jaxsim.rules import pytree


@jaxsim.register
@pytree
class Ball:
    scale: Any = 1.0
    radius: Any = 1.0

    name = "ball"

    def place(self, xi, rest):
        """Coordinates inside the span and the squared norm outside, from those of a standard Gaussian matrix."""
        norm = self.scale * jnp.sqrt(jnp.sum(xi * xi) + rest)
        factor = self.scale * jnp.minimum(1.0, self.radius / norm)
        return factor * xi, factor**2 * rest


problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
run = jaxsim.simulate(problem, jaxsim.rules.NGD(0.1), Ball(1.0, 5.0), key=jax.random.key(1), lanes=200, steps=10)
start = run.norm[:, 0]  # E‖G‖² = 25: some starts are inside, some were brought to the surface
assert start.max() <= 5.0 * (1 + 1e-5) and 0 < (start < 4.99).sum() < 200
