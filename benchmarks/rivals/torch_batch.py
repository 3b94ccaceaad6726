"""Batched PyTorch, eager and compiled: parameter space with autograd, or our reduced step in logits, unscaled."""

import numpy as np
import torch  # type: ignore[import-not-found]


def begin(problem, dtype, W0, space, compiled):
    """A step of all lanes, their first state, and what gives logits; `space` is "parameters" or "logits"."""
    step, state, logits = {"parameters": _parameters, "logits": _logits}[space](problem, dtype, W0)
    return torch.compile(step) if compiled else step, state, logits


def _parameters(problem, dtype, W0):
    X, Z, s = (torch.tensor(v.astype(dtype)) for v in (problem.tokens, problem.queries, problem.scores))
    lanes, d = len(W0), problem.shape[2]
    rows = torch.einsum("itd,ie->itde", X, Z).reshape(-1, d * d)

    def loss(W):
        phi = torch.softmax((W @ rows.T).reshape(lanes, *s.shape), dim=2)
        return torch.nn.functional.softplus(-(phi * s).sum(2)).mean(1).sum()

    def step(W):
        W = W.detach().requires_grad_()
        (g,) = torch.autograd.grad(loss(W), W)
        return (W - 0.1 * g / g.norm(dim=1, keepdim=True)).detach()

    first = torch.tensor(W0.reshape(lanes, -1).astype(dtype))
    return step, first, lambda W: (W @ rows.T).reshape(lanes, *s.shape).numpy()


def _logits(problem, dtype, W0):
    n, T, _ = problem.shape
    x, z = problem.tokens.reshape(n * T, -1), np.repeat(problem.queries, T, axis=0)
    K = torch.tensor(((x @ x.T) * (z @ z.T)).astype(dtype))
    s = torch.tensor(problem.scores[:, :, None].astype(dtype))
    a = np.einsum("itd,lde,ie->itl", problem.tokens, W0, problem.queries, optimize=True)
    a = torch.tensor(a.astype(dtype, order="C"))

    def step(state):
        a, c = state
        phi = torch.softmax(a, dim=1)
        m = (phi * s).sum(1, keepdim=True)
        g = -phi * (s - m) * torch.sigmoid(-m) / n
        Kg = (K @ g.reshape(n * T, -1)).reshape(a.shape)
        f = 0.1 / (g * Kg).sum((0, 1)).sqrt()
        return a - f * Kg, c - f * g

    return torch.no_grad()(step), (a, torch.zeros_like(a)), lambda state: np.moveaxis(state[0].numpy(), -1, 0)
