r"""Sharpness: the largest eigenvalue of the Hessian of the loss in W, at any depth.

With g_it = φ_it (s_it - m_i), the slope of m_i in the logits,

    H_i = (1/n) [ℓ''(m_i) g_i g_iᵀ + ℓ'(m_i) (diag g_i - g_i φ_iᵀ - φ_i g_iᵀ)],     ∇²L = Φᵀ diag(H_1, …, H_n) Φ,

Φ having the rows vec(x_it z_iᵀ). Its eigenvalues other than zero are those of Fᵀ diag(H_i) F with F Fᵀ = K = Φ Φᵀ, so
nothing of size d² is made. g_i carries the scale e^{c_i} of its sequence (`jaxsim.model.softmax`), and ℓ' = -p e^q one
of its own; all of a lane are brought to one scale at the end.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsim.coordinates import DualFrame
from jaxsim.model import Loss, positive, token_scores
from jaxsim.model.softmax import scaled_map
from jaxsim.problem import Problem

DENSE = 400  # numbers of a lane from which on its matrix is not made
AT_ONCE = 2**24  # numbers of all matrices at once


def log10_sharpness(
    problem: Problem, logits: Float[np.ndarray, "*lanes n T"], loss: Loss
) -> Float[np.ndarray, "*lanes"]:
    """Log10 of the largest eigenvalue of ∇²L(W), from the attention logits alone.

    GD with step η is stable along that direction where it is below 2/η. It is right up to rounding of the largest
    eigenvalue in size; where that rounding hides it, and where L curves upwards in no direction, it is -∞.

    Args:
        problem: the data.
        logits: attention logits; what tokens are hidden is taken from the problem.
        loss: ℓ.

    Example:
        >>> import jaxsim, numpy as np
        >>> problem = jaxsim.Problem(np.eye(2)[None], np.ones((1, 2)), np.ones(1), np.array([1.0, 0.0]))
        >>> from jaxsim.model import LOSSES
        >>> log10_sharpness(problem, np.zeros((1, 1, 2)), LOSSES["exponential"]).round(3)
        array([-0.819])
    """
    shape, N = logits.shape[:-2], problem.visible.size
    flat = np.where(problem.visible, logits, -np.inf).reshape(-1, *problem.visible.shape)
    factor = _factor(problem).reshape(*problem.visible.shape, -1)
    found, each = [], max(1, AT_ONCE // max(factor.shape[-1] ** 2 if N <= DENSE else 1, N * problem.visible.shape[1]))
    for k in range(0, len(flat), each):
        blocks, scale = _blocks(problem, flat[k : k + each], loss)
        largest = _dense(blocks, factor) if N <= DENSE else _sparse(blocks, factor)
        with np.errstate(divide="ignore"):
            found.append(np.log10(largest) + scale / np.log(10))
    return np.concatenate(found).reshape(shape) if found else np.empty(shape)


def _factor(problem: Problem) -> Float[np.ndarray, "N r"]:
    """F with F Fᵀ = K, of tokens less their sequence's mean, which the H_i do not see."""
    values, vectors = np.linalg.eigh(DualFrame(problem).gram)
    kept = values > len(values) * np.finfo(float).eps * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def _blocks(
    problem: Problem, logits: Float[np.ndarray, "lanes n T"], loss: Loss
) -> tuple[Float[np.ndarray, "lanes n T T"], Float[np.ndarray, " lanes"]]:
    """(H_i e^-κ, κ), with κ the largest scale of a lane."""
    values = jnp.moveaxis(jnp.asarray(logits), 0, -1)
    scores = token_scores(problem, values.dtype)
    attention = scaled_map(values, scores)
    margin, rho, slope_of = scores.best - attention.deficit, 0.0, loss.slope
    if positive(loss):  # a margin is m e^ρ, and so ℓ'' has e^-ρ beside the derivative in m
        margin, rho = attention.margin(scores)
        slope_of = functools.partial(loss.slope_at, scale=rho)
    (p, q), (dp, dq) = jax.jvp(slope_of, (margin,), (jnp.ones_like(margin),))
    parts = (
        attention.weights * attention.fall(scores) / attention.denominator,
        attention.attention(scores),
        p,
        -(dp + p * dq),
        attention.log_scale - rho,
    )
    u, phi, slope, bend, log_bend = (np.moveaxis(np.asarray(part, np.float64), -1, 0) for part in parts)
    c, log_slope = (np.moveaxis(np.asarray(part, np.float64), -1, 0) for part in (attention.log_scale, q))
    kappa = (c + log_slope).max((1, 2))
    kappa = np.where(np.isfinite(kappa), kappa, 0.0)
    scale = np.exp(c + log_slope - kappa[:, None, None]) / problem.visible.shape[0]
    turned = u[..., :, None] * phi[..., None, :]
    square = (bend * np.exp(log_bend))[..., None] * u[..., :, None] * u[..., None, :]
    inner = np.eye(u.shape[-1]) * u[..., None, :] - turned - np.swapaxes(turned, -1, -2)
    return scale[..., None] * (square - slope[..., None] * inner), kappa


def _seen(values: Float[np.ndarray, "lanes k"]) -> Float[np.ndarray, " lanes"]:
    """The largest value, 0 where rounding of the largest in size hides it."""
    top = values.max(-1)
    return np.where(top > values.shape[-1] * np.finfo(float).eps * np.abs(values).max(-1), top, 0.0)


def _dense(blocks: Float[np.ndarray, "lanes n T T"], factor: Float[np.ndarray, "n T r"]) -> Float[np.ndarray, " lanes"]:
    """Largest eigenvalues of Fᵀ H F."""
    rank = factor.shape[-1]
    right = np.matmul(blocks, factor).reshape(len(blocks), -1, rank)
    good = np.isfinite(right).all((1, 2))
    values = np.linalg.eigvalsh(factor.reshape(-1, rank).T @ np.where(good[:, None, None], right, 0.0))
    return np.where(good, _seen(values), np.nan)


def _sparse(
    blocks: Float[np.ndarray, "lanes n T T"], factor: Float[np.ndarray, "n T r"]
) -> Float[np.ndarray, " lanes"]:
    """The same by Lanczos' method, lane by lane."""
    n, T, rank = factor.shape
    flat, found = factor.reshape(n * T, rank), []
    for block in blocks:
        if not np.isfinite(block).all():
            found.append(np.nan)
            continue

        def times(v, block=block):
            return flat.T @ np.einsum("its,is->it", block, (flat @ v).reshape(n, T)).ravel()

        from scipy.sparse.linalg import LinearOperator, eigsh  # slow to import

        operator = LinearOperator((rank, rank), matvec=times, dtype=float)  # type: ignore[call-arg]
        start = np.ones(rank)
        ends = [eigsh(operator, 1, which=end, v0=start, return_eigenvectors=False)[0] for end in ("LA", "LM")]
        found.append(_seen(np.array([ends]))[0])
    return np.array(found)
