"""Steepest descent in the spectral norm."""

from typing import Any, Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsim.model.gradient import Tree
from jaxsim.rules.base import Stateless, pytree, register, static, step_size


@register
@pytree
class Spectral(Stateless):
    """Steepest descent in the spectral norm: the gradient with all its singular values set to one.

        W ← W - η U Vᵀ,   ∇L(W) = U S Vᵀ

    The rule commutes with rotations of tokens and of queries, so it runs on the r_x × r_z core of W. By "svd",
    directions whose singular value is below eps · max(r) of the largest count as zero and do not move; by
    "newton-schulz", 30 iterations X ← (3X - XXᵀX)/2 bring singular values above about 1e-5 of the norm to one and
    leave smaller ones small. Sequences saturate at different rates, so the singular values of ∇L grow apart; what the
    exact rule would do with those below rounding is out of reach of either.

    Args:
        eta: spectral norm η of a step, above 0, or a schedule.
        method: "svd" or "newton-schulz".

    Reference:
        Muon's update without momentum (Jordan et al. 2024); as steepest descent, Bernstein and Newhouse 2024,
        arXiv 2409.20325.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.Spectral(0.1)
        Spectral(eta=0.1, method='svd')
    """

    eta: Any
    method: Literal["svd", "newton-schulz"] = static(default="svd")

    name = "spectral"
    coordinates = "primal"

    def __post_init__(self):
        object.__setattr__(self, "eta", step_size("eta", self.eta))
        check_method(self.method)

    def update(self, gradient, state, step):
        """-η times the polar factor of every matrix block."""
        eta = self.eta(step, gradient.gap.dtype)
        return tuple(steepest(b.direction, b.norm, self.method, eta) for b in gradient.blocks), state


def check_method(method: str) -> None:
    """ValueError unless it names a way to polar factors."""
    if method not in ("svd", "newton-schulz"):
        raise ValueError(f"method: expected 'svd' or 'newton-schulz'; got {method!r}")


def steepest(block: Tree, norm: Float[Array, " lanes"], method: str, eta: Array) -> Tree:
    """-η times the polar factor of every matrix of a block; `norm` is the block's size, which may be 0."""
    polar, scale = _by_svd if method == "svd" else _by_iteration, jnp.where(norm == 0, 1.0, norm)
    return {name: -eta * jnp.moveaxis(polar(jnp.moveaxis(leaf / scale, -1, 0)), 0, -1) for name, leaf in block.items()}


def _by_svd(G):
    U, s, V = jnp.linalg.svd(G, full_matrices=False)
    kept = s > s[:, :1] * (jnp.finfo(G.dtype).eps * max(G.shape[1:]))
    return jnp.matmul(jnp.where(kept[:, None], U, 0.0), V, precision=lax.Precision.HIGHEST)


def _by_iteration(G, iterations: int = 30):
    def step(_, X):
        XXT = jnp.matmul(X, X.swapaxes(1, 2), precision=lax.Precision.HIGHEST)
        return 1.5 * X - 0.5 * jnp.matmul(XXT, X, precision=lax.Precision.HIGHEST)

    return lax.fori_loop(0, iterations, step, G)
