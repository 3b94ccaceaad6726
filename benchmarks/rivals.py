"""What people do today, written here: one run at a time with eager autodiff, and batched NumPy in logit space.

Neither keeps the right direction beyond a few hundred (float32) or a thousand (float64) steps; see benchmarks.trap.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np


def eager_loop(problem, dtype, steps=100):
    """Lane-steps per second of one run, step by step, autodiff in W, normalised."""
    X, Z, s = (jnp.asarray(v, dtype) for v in (problem.tokens, problem.queries, problem.scores))

    def loss(W):
        phi = jax.nn.softmax(jnp.einsum("itd,de,ie->it", X, W, Z), axis=1)
        return jax.nn.softplus(-(phi * s).sum(1)).mean()

    gradient = jax.grad(loss)
    W = jnp.zeros((problem.shape[2],) * 2, dtype)

    def go(W, count):
        for _ in range(count):
            g = gradient(W)
            W = W - 0.1 * g / jnp.linalg.norm(g)
        return jax.block_until_ready(W)

    go(W, 3)
    began = time.perf_counter()
    go(W, steps)
    return steps / (time.perf_counter() - began)


def numpy_batched(problem, dtype, lanes=10_000, steps=20):
    """Lane-steps per second of all lanes at once in NumPy, logits only, plain softmax gradient."""
    n, T, _ = problem.shape
    x, z = problem.tokens.reshape(n * T, -1), np.repeat(problem.queries, T, axis=0)
    gram = ((x @ x.T) * (z @ z.T)).astype(dtype)
    s = problem.scores[:, :, None].astype(dtype)
    a = np.random.default_rng(0).standard_normal((n, T, lanes)).astype(dtype)

    def step(a):
        phi = np.exp(a - a.max(1, keepdims=True))
        phi /= phi.sum(1, keepdims=True)
        m = (phi * s).sum(1, keepdims=True)
        g = -phi * (s - m) / (1 + np.exp(m)) / n
        Kg = (gram @ g.reshape(n * T, lanes)).reshape(a.shape)
        return a - dtype(0.1) / np.sqrt((g * Kg).sum((0, 1))) * Kg

    a = step(a)
    began = time.perf_counter()
    for _ in range(steps):
        a = step(a)
    return lanes * steps / (time.perf_counter() - began)
