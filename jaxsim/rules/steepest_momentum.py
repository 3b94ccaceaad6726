"""Momentum for steepest descent in other norms than Frobenius': of the largest entry, and of the spectral norm."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxsim.rules.base import pytree, register, static
from jaxsim.rules.momentum import Momentum, lengths_of
from jaxsim.rules.spectral import check_method, steepest


@register
@pytree
class Signum(Momentum):
    """Sign descent with momentum.

        v ← β v + (1 - β) ∇L(W),   W ← W - η sign(v)

    v has a log scale of its own, so its sign is right at any depth. Where gradients shrink faster than β, v never
    forgets its first ones, as under `NormalisedMomentum`.

    Args:
        eta: step η of an entry, above 0, or a schedule.
        beta: β from 0 (sign descent) to below 1.

    Reference:
        Bernstein et al. 2018, arXiv 1802.04434, without noise.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.Signum(0.01)
        Signum(eta=0.01, beta=0.9)
    """

    eta: Any
    beta: Any = 0.9
    rest: Any = dataclasses.field(init=False, repr=False)  # 1 - β

    name = "signum"
    coordinates = "full"

    def update(self, gradient, state, step):
        """-η sign(v); the factor 1 - β has no sign."""
        eta = self.eta(step, gradient.gap.dtype)
        after = self.mixed(state, gradient)
        return tuple(jax.tree.map(lambda leaf: -eta * jnp.sign(leaf), v.tree) for v in after), after


@register
@pytree
class Muon(Momentum):
    """Steepest descent in the spectral norm with momentum.

        v ← β v + (1 - β) ∇L(W),   v = U S Vᵀ,   W ← W - η U Vᵀ

    Args:
        eta: spectral norm η of a step, above 0, or a schedule.
        beta: β from 0 (`Spectral`) to below 1.
        method: "svd" or "newton-schulz", as for `Spectral`.

    Reference:
        Jordan et al. 2024, without Nesterov's look-ahead and without weight decay.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.Muon(0.1)
        Muon(eta=0.1, beta=0.95, method='svd')
    """

    eta: Any
    beta: Any = 0.95
    method: Literal["svd", "newton-schulz"] = static(default="svd")
    rest: Any = dataclasses.field(init=False, repr=False)  # 1 - β

    name = "muon"
    coordinates = "primal"

    def __post_init__(self):
        super().__post_init__()
        check_method(self.method)

    def update(self, gradient, state, step):
        """-η times the polar factor of v, block by block."""
        eta = self.eta(step, gradient.gap.dtype)
        after = self.mixed(state, gradient)
        lengths = lengths_of(after, gradient)
        increments = [steepest(v.tree, length, self.method, eta) for v, length in zip(after, lengths, strict=True)]
        return tuple(increments), after
