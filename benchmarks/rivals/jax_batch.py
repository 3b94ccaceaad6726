"""Batched JAX in parameter space: `vmap` of plain autodiff in W, many steps in one program, as one would write it."""

import jax
import jax.numpy as jnp
import numpy as np

STEPS = 10  # of one call


def begin(problem, dtype, W0):
    """So many steps of all lanes, their first state, and what gives logits (lanes, n, T) of a state."""
    X, Z, s = (jnp.asarray(v, dtype) for v in (problem.tokens, problem.queries, problem.scores))

    def logits(W):
        return jnp.einsum("itd,de,ie->it", X, W, Z)

    def loss(W):
        return jax.nn.softplus(-(jax.nn.softmax(logits(W), axis=1) * s).sum(1)).mean()

    def one(W):
        g = jax.grad(loss)(W)
        return W - 0.1 * g / jnp.linalg.norm(g)

    step = jax.jit(lambda W: jax.lax.fori_loop(0, STEPS, lambda _, W: jax.vmap(one)(W), W))
    return lambda W: step(W).block_until_ready(), jnp.asarray(W0, dtype), lambda W: np.asarray(jax.vmap(logits)(W))
