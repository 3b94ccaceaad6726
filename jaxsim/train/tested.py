"""How many labels a run predicts of sequences on which nothing is trained."""

import numpy as np
from jaxtyping import Float

from jaxsim._basis import orthonormal_basis
from jaxsim.coordinates import Frame
from jaxsim.problem import Problem

NUMBERS = 2**22  # of matrices x zᵀ, at once
TESTED = {"train_accuracy": "train accuracy", "test_accuracy": "test accuracy"}  # curves and their headings


def scores(problem: Problem, u: Float[np.ndarray, "R d"]) -> Float[np.ndarray, "R n T"]:
    """s_it = y_i uᵀx_it under R decoders, and 0 where hidden."""
    found = problem.labels[:, None] * np.einsum("itd,rd->rit", problem.tokens, u, optimize=True)
    return np.where(problem.visible, found, 0.0)


def accuracies(
    problem: Problem, frame: Frame, xi: Float[np.ndarray, "lanes R size"], u: Float[np.ndarray, "lanes R d"] | None
) -> dict[str, Float[np.ndarray, "lanes R"]]:
    """The shares of training and of test sequences with y f(x) > 0, so that ties count as wrong; NaN where f is none.

    Test sequences see the part of W in the span of the training rows x_it z_iᵀ: what a run sees that starts from the
    part of W_0 in it, which takes the same steps. Decoders are those given, or that of the problem.
    """
    sets, rows = (problem, problem.test), _in_the_span(problem.test, problem, frame)
    fixed = [scores(of, of.decoder[None]) for of in sets]
    found = {name: np.empty(xi.shape[:2]) for name in TESTED}
    for lane, own in enumerate(xi):  # alone, so that none depends on the others; and memory may not hold all
        with np.errstate(invalid="ignore", over="ignore"):
            logits = frame.logits(own), (own @ rows).reshape(-1, *problem.test.visible.shape)
            told = fixed if u is None else [scores(of, u[lane]) for of in sets]
            for name, of, a, s in zip(TESTED, sets, logits, told, strict=True):
                found[name][lane] = _right(np.where(of.visible, a, -np.inf), s)
    return found


def _right(a: Float[np.ndarray, "R n T"], s: Float[np.ndarray, "#R n T"]) -> Float[np.ndarray, " R"]:
    """The share with Σ_t φ_t s_t > 0; softmax needs no denominator for that."""
    margin = (np.exp(a - a.max(2, keepdims=True)) * s).sum(2)
    return np.where(np.isnan(margin).any(1), np.nan, (margin > 0).mean(1))


def _in_the_span(test: Problem, trained: Problem, frame: Frame) -> Float[np.ndarray, "size N"]:
    """The rows x_it z_iᵀ of test sequences, as far as they lie in the span of those of the training data, in ξ."""
    n, T = test.visible.shape
    each = max(1, NUMBERS // (T * frame.ambient))
    parts = [
        np.einsum("itd,ie->itde", test.keys[k : k + each], test.queries[k : k + each]).reshape(-1, *test.W_shape)
        for k in range(0, n, each)
    ]
    rows = np.concatenate([frame.project(part)[0] for part in parts])
    each_alone = np.eye(trained.visible.size).reshape(-1, *trained.visible.shape)
    basis = orthonormal_basis(frame.combine(each_alone))
    return basis @ (basis.T @ rows.T)
