"""Batched PyTorch, eager and compiled: parameter space with autograd, or our reduced step in logits, unscaled."""

import time

import numpy as np
import torch  # type: ignore[import-not-found]


def rate(problem, dtype, space, compiled, lanes=10_000, steps=10):
    """Lane-steps per second over all cores; `space` is "parameters" or "logits"."""
    make = {"parameters": _parameters, "logits": _logits}[space]
    step, state = make(problem, dtype, lanes)
    if compiled:
        step = torch.compile(step)
    for _ in range(3):
        state = step(state)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(steps):
            state = step(state)
        times.append(time.perf_counter() - began)
    return lanes * steps / sorted(times)[2]


def _parameters(problem, dtype, lanes):
    X, Z, s = (torch.tensor(v.astype(dtype)) for v in (problem.tokens, problem.queries, problem.scores))
    d = problem.shape[2]
    rows = torch.einsum("itd,ie->itde", X, Z).reshape(-1, d * d)
    W = torch.tensor(np.random.default_rng(0).standard_normal((lanes, d * d)).astype(dtype))

    def loss(W):
        phi = torch.softmax((W @ rows.T).reshape(lanes, *s.shape), dim=2)
        return torch.nn.functional.softplus(-(phi * s).sum(2)).mean(1).sum()

    def step(W):
        W = W.detach().requires_grad_()
        (g,) = torch.autograd.grad(loss(W), W)
        return (W - 0.1 * g / g.norm(dim=1, keepdim=True)).detach()

    return step, W


def _logits(problem, dtype, lanes):
    n, T, _ = problem.shape
    x, z = problem.tokens.reshape(n * T, -1), np.repeat(problem.queries, T, axis=0)
    K = torch.tensor(((x @ x.T) * (z @ z.T)).astype(dtype))
    s = torch.tensor(problem.scores[:, :, None].astype(dtype))
    a = torch.tensor(np.random.default_rng(0).standard_normal((n, T, lanes)).astype(dtype))

    def step(state):
        a, c = state
        phi = torch.softmax(a, dim=1)
        m = (phi * s).sum(1, keepdim=True)
        g = -phi * (s - m) * torch.sigmoid(-m) / n
        Kg = (K @ g.reshape(n * T, lanes)).reshape(a.shape)
        f = 0.1 / (g * Kg).sum((0, 1)).sqrt()
        return a - f * Kg, c - f * g

    return torch.no_grad()(step), (a, torch.zeros_like(a))
