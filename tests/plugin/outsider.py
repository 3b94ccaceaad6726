"""An example package outside jaxsim: one rule, one law, one data family and one trained thing, all by public names."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxsim
from jaxsim.rules import Stateless, pytree, step_size, times


@jaxsim.register
@pytree
class RootNorm(Stateless):
    """Gradient descent whose step is the root of the gradient's norm: W ← W - η ∇L / ‖∇L‖^½."""

    eta: Any

    name = "root-norm"

    def __post_init__(self):
        object.__setattr__(self, "eta", step_size("eta", self.eta))

    def update(self, gradient, state, step):
        """-η e^{c/2} · direction / ‖direction‖^½, with the gradient's log scale c."""
        eta = self.eta(step, gradient.gap.dtype)
        moved = []
        for block in gradient.blocks:
            root = jnp.where(block.norm == 0, 1.0, jnp.sqrt(block.norm))
            moved.append(times(-eta * jnp.exp(block.log_scale / 2) / root, block.direction))
        return tuple(moved), state


@jaxsim.register
@pytree
class BetweenSpheres:
    """W_0 between two spheres, in a direction that is uniform.

    Args:
        outer: the larger radius.
        inner: the smaller one, as a share of the larger.
    """

    outer: float = 2.0
    inner: float = 0.5

    def place(self, xi, rest):
        """A radius that depends on nothing but the length of the draw."""
        squared = jnp.sum(xi * xi) + rest
        radius = self.outer * (self.inner + (1.0 - self.inner) * jnp.sin(squared) ** 2)
        factor = radius * radius / squared
        return jnp.sqrt(factor) * xi, factor * rest


@jaxsim.register
def twin_tokens(key, n: int = 4, T: int = 3, d: int = 6, spread: float = 0.5) -> jaxsim.Problem:
    """Sequences whose tokens are one random vector, each with noise of its own."""
    rng = jaxsim.data.generator(key)
    centre = rng.standard_normal((n, 1, d))
    tokens = centre + spread * rng.standard_normal((n, T, d))
    labels = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    return jaxsim.Problem(tokens, rng.standard_normal((n, d)), labels, rng.standard_normal(d))


@jaxsim.register
@dataclasses.dataclass(frozen=True, eq=False)
class Growing(jaxsim.train.Weights):
    """W alone, with what ‖W‖ has gained since the first recorded step as a curve of its own."""

    name = "with-growth"
    curves = {"growth": "growth"}

    def columns(self, view):
        """The curve "growth", one number per lane and recorded step."""
        return {"growth": view.norm - view.norm[:, :1]}
