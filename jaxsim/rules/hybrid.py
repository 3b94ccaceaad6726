"""Steepest descent in the largest of several norms, each of a block of rows."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsim.rules.base import pytree, register, static
from jaxsim.rules.momentum import Momentum
from jaxsim.rules.spectral import steepest

DESCENDED = ("frobenius", "spectral", "linf")


@register
@pytree
class Hybrid(Momentum):
    """Steepest descent in a hybrid norm, the maximum of the norms of blocks of rows; with momentum if asked for.

        N(W) = max_b N_b(W_b),   v ← β v + (1 - β) ∇L(W),   W_b ← W_b - η D_b(v_b)

    with W_1, W_2, … as many blocks of rows as there are norms, the first ones a row larger where they cannot be equal
    (numpy.array_split), and D_b(v) the matrix of N_b(D) = 1 that has the largest ⟨v, D⟩: v/‖v‖_F, the polar factor of
    v, or its signs. The step has N = η, and ⟨v, D⟩ = Σ_b N_b*(v_b), the dual norm of v. A block of zeros stays.
    `jaxsim.max_margin(problem, norm="spectral/linf")` is the max-margin solution of the same norm. Blocks of different
    parameters, such as K and Q, have rules of their own by `PerBlock`.

    Args:
        eta: step η, above 0, or a schedule.
        norms: two or more of frobenius, spectral and linf, separated by /, from the first rows to the last.
        beta: β from 0 (no momentum) to below 1.

    Reference:
        Gronich and Vardi 2026, arXiv 2602.16340, say in their abstract that Muon on some parameters and Signum on
        others maximise the margin of a hybrid norm. Blocks of rows of one W are a convention of this project.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.Hybrid(0.05)
        Hybrid(eta=0.05, norms='spectral/linf', beta=0.0)
    """

    eta: Any
    norms: str = static(default="spectral/linf")
    beta: Any = 0.0
    rest: Any = dataclasses.field(init=False, repr=False)  # 1 - β

    name = "hybrid"
    coordinates = "full"

    def __post_init__(self):
        super().__post_init__()
        names = self.norms.split("/") if isinstance(self.norms, str) else []
        if len(names) < 2 or not set(names) <= set(DESCENDED):
            raise ValueError(
                f"norms: expected two or more of {', '.join(DESCENDED)}, separated by /, such as 'spectral/linf'; "
                f"got {self.norms!r}"
            )

    def update(self, gradient, state, step):
        """-η times the direction of every block of rows."""
        eta = self.eta(step, gradient.gap.dtype)
        after = self.mixed(state, gradient)
        return tuple(jax.tree.map(lambda leaf: self._along(leaf, eta), v.tree) for v in after), after

    def _along(self, leaf: Array, eta: Array) -> Array:
        """Of Wᵀ as coordinates have it, columns of W first, or of a vector."""
        names = self.norms.split("/")
        whole = leaf if leaf.ndim == 3 else leaf[None]  # a vector is a matrix of one column
        parts = jnp.array_split(whole, len(names), axis=1)
        moved = [_descended(part, name, eta) for part, name in zip(parts, names, strict=True) if part.size]
        return jnp.concatenate(moved, axis=1).reshape(leaf.shape)


def _descended(part: Float[Array, "e rows lanes"], name: str, eta: Array) -> Float[Array, "e rows lanes"]:
    """-η times the matrix of norm 1 that has the largest product with a block."""
    if name == "linf":
        return -eta * jnp.sign(part)
    largest = jnp.abs(part).max((0, 1))
    unit = part / jnp.where(largest == 0, 1.0, largest)
    size = jnp.sqrt((unit**2).sum((0, 1)))
    if name == "spectral":
        return steepest({"rows": unit}, size, "svd", eta)["rows"]
    return -eta * unit / jnp.where(size == 0, 1.0, size)
