"""An independent simulator: plain NumPy on W itself, one run, autodiff-free, straight from the definition."""

import numpy as np


def forward(problem, W, loss):
    """Loss, its gradient in W, and the attention map, with no care for saturation."""
    n = len(problem.labels)
    a = np.einsum("itd,de,ie->it", problem.tokens, W, problem.queries)
    a = np.where(problem.visible, a, -np.inf)
    phi = np.exp(a - a.max(1, keepdims=True))
    phi /= phi.sum(1, keepdims=True)
    m = (phi * problem.scores).sum(1)
    value = {"logistic": np.log1p(np.exp(-m)), "exponential": np.exp(-m), "linear": -m}[loss]
    slope = {"logistic": -1 / (1 + np.exp(m)), "exponential": -np.exp(-m), "linear": -np.ones(n)}[loss]
    g = slope[:, None] / n * phi * (problem.scores - m[:, None])
    return value.mean(), np.einsum("it,itd,ie->de", g, problem.tokens, problem.queries), phi


def infimum(problem, loss):
    best = problem.scores[np.arange(len(problem.labels)), problem.optimal]
    return {"logistic": np.log1p(np.exp(-best)), "exponential": np.exp(-best), "linear": -best}[loss].mean()


def train(problem, W, rule, eta, steps, loss="logistic"):
    """W after `steps` updates."""
    v, squares, beta = 0 * W, 1.0, 0.9
    for k in range(steps):
        value, gradient, _ = forward(problem, W, loss)
        size = np.linalg.norm(gradient)
        v, squares = beta * v + gradient, squares + size**2
        direction = {
            "gd": gradient,
            "ngd": gradient / size,
            "polyak": (value - infimum(problem, loss)) / size**2 * gradient,
            "heavy-ball": v,
            "nesterov": gradient + beta * v,
            "normalised-momentum": v / np.linalg.norm(v),
            "adagrad-norm": gradient / np.sqrt(squares),
        }[rule]
        W = W - (eta(k) if callable(eta) else eta) * direction
    return W
