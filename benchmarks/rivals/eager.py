"""One run, step by step, autodiff in W, normalised, as in published notebooks. PyTorch if installed, else JAX."""

import time


def rate(problem, dtype, steps=300):
    """Lane-steps per second."""
    try:
        go = _torch(problem, dtype)
    except ImportError:
        go = _jax(problem, dtype)
    go(5)
    began = time.perf_counter()
    go(steps)
    return steps / (time.perf_counter() - began)


def _torch(problem, dtype):
    import torch  # type: ignore[import-not-found]

    X, Z, s = (torch.tensor(v.astype(dtype)) for v in (problem.tokens, problem.queries, problem.scores))
    W = torch.zeros(problem.shape[2], problem.shape[2], dtype=X.dtype, requires_grad=True)

    def go(steps):
        for _ in range(steps):
            phi = torch.softmax(torch.einsum("itd,de,ie->it", X, W, Z), dim=1)
            loss = torch.nn.functional.softplus(-(phi * s).sum(1)).mean()
            (g,) = torch.autograd.grad(loss, W)
            with torch.no_grad():
                W.sub_(0.1 * g / g.norm())

    return go


def _jax(problem, dtype):
    import jax
    import jax.numpy as jnp

    X, Z, s = (jnp.asarray(v, dtype) for v in (problem.tokens, problem.queries, problem.scores))

    def loss(W):
        phi = jax.nn.softmax(jnp.einsum("itd,de,ie->it", X, W, Z), axis=1)
        return jax.nn.softplus(-(phi * s).sum(1)).mean()

    gradient = jax.grad(loss)

    def go(steps):
        W = jnp.zeros((problem.shape[2],) * 2, dtype)
        for _ in range(steps):
            g = gradient(W)
            W = W - 0.1 * g / jnp.linalg.norm(g)
        jax.block_until_ready(W)

    return go
