"""Batched NumPy in logit space: all lanes at once, plain softmax gradient. Wrong direction once softmax saturates."""

import numpy as np


def begin(problem, dtype, W0):
    """A step of all lanes, their first state, and what gives logits (lanes, n, T) of a state."""
    n, T, _ = problem.shape
    x, z = problem.tokens.reshape(n * T, -1), np.repeat(problem.queries, T, axis=0)
    gram = ((x @ x.T) * (z @ z.T)).astype(dtype)
    s = problem.scores[:, :, None].astype(dtype)
    a = np.einsum("itd,lde,ie->itl", problem.tokens, W0, problem.queries, optimize=True).astype(dtype, order="C")

    def step(a):
        phi = np.exp(a - a.max(1, keepdims=True))
        phi /= phi.sum(1, keepdims=True)
        m = (phi * s).sum(1, keepdims=True)
        g = -phi * (s - m) / (1 + np.exp(m)) / n
        Kg = (gram @ g.reshape(n * T, -1)).reshape(a.shape)
        return a - dtype(0.1) / np.sqrt((g * Kg).sum((0, 1))) * Kg

    return step, a, lambda a: np.moveaxis(a, -1, 0)
