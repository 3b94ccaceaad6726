"""Batched NumPy in logit space: all lanes at once, plain softmax gradient. Wrong direction once softmax saturates."""

import time

import numpy as np


def rate(problem, dtype, lanes=10_000, steps=20):
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
