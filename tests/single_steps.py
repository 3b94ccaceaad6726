"""What leaps and strides are held against: small problems, and single steps summed with compensation."""

import functools

import jax
import jax.numpy as jnp

from jaxsim import data
from jaxsim.driver.steps import begin, compensated

FAMILIES = {
    "unit-sphere": functools.partial(data.unit_sphere, n=4, T=5, d=8),
    "signal-noise": functools.partial(data.signal_noise, n=4, T=4, d=20),
    "orthonormal": functools.partial(data.orthonormal, n=3, T=3, d=9),
}


@functools.partial(jax.jit, static_argnames="count")
def by_steps(model, rule, start, count):
    """Parameters after so many single steps."""
    state = begin(model, rule, start)
    zero = jax.tree.map(jnp.zeros_like, state.params)
    state, residual = compensated(model, rule, state, zero, jnp.int32(0), jnp.int32(count))
    return jax.tree.map(jnp.add, state.params, residual)
