"""Momentum whose average is carried with a log scale of its own: heavy ball, Nesterov, and normalised."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsim._numbers import numbers
from jaxsim.model.gradient import Gradient
from jaxsim.rules.base import Defaults, Scaled, decay, mix, pytree, register, step_size, times


class Momentum(Defaults):
    """What rules with momentum share: one running sum per block, v ← β v + ∇."""

    eta: Any
    beta: Any
    rest: Any

    stepped_because = "what it remembers changes within a few steps"

    def __post_init__(self):
        object.__setattr__(self, "eta", step_size("eta", self.eta))
        object.__setattr__(self, "beta", numbers("beta", self.beta, decay))
        object.__setattr__(self, "rest", 1.0 - self.beta)

    def init(self, params):
        """V = 0 for every block."""
        return tuple(Scaled.zero(block) for block in params)

    def mixed(self, state: tuple[Scaled, ...], gradient: Gradient) -> tuple[Scaled, ...]:
        """β v + ∇ of every block."""
        return tuple(mix(v, self.rest, b) for v, b in zip(state, gradient.blocks, strict=True))


def lengths_of(state: tuple[Scaled, ...], gradient: Gradient) -> list[Float[Array, " lanes"]]:
    """‖v‖ of every block, at the scale of its tree."""
    return [jnp.sqrt(b.inner(v.tree, v.tree)) for v, b in zip(state, gradient.blocks, strict=True)]


@register
@pytree
class HeavyBall(Momentum):
    """Gradient descent with Polyak's heavy-ball momentum.

        v ← β v + ∇L(W),   W ← W - η v

    Gradients shrink exponentially as attention saturates, so v comes to consist of old gradients: at depth its
    length is set by β and by the past, not by ∇L. v has a log scale of its own and stays right at any depth.

    Args:
        eta: step size η above 0, or a schedule.
        beta: β from 0 (gradient descent) to below 1.

    Reference:
        Polyak 1964; in this form Sutskever, Martens, Dahl, Hinton 2013.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.HeavyBall(0.5)
        HeavyBall(eta=0.5, beta=0.9)
    """

    eta: Any
    beta: Any = 0.9
    rest: Any = dataclasses.field(init=False, repr=False)  # 1 - β

    name = "heavy-ball"

    @property
    def native(self):
        """See Rule."""
        return "HEAVY_BALL", (self.eta, self.rest)

    def update(self, gradient, state, step):
        """-η v."""
        eta = self.eta(step, gradient.gap.dtype)
        after = self.mixed(state, gradient)
        return tuple(times(-eta * jnp.exp(v.log_scale), v.tree) for v in after), after


@register
@pytree
class Nesterov(Momentum):
    """Gradient descent with Nesterov's momentum, in the form without a look-ahead point.

        v ← β v + ∇L(W),   W ← W - η (∇L(W) + β v)

    Args:
        eta: step size η above 0, or a schedule.
        beta: β from 0 (gradient descent) to below 1.

    Reference:
        Nesterov 1983; in this form Sutskever, Martens, Dahl, Hinton 2013.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.Nesterov(0.5)
        Nesterov(eta=0.5, beta=0.9)
    """

    eta: Any
    beta: Any = 0.9
    rest: Any = dataclasses.field(init=False, repr=False)  # 1 - β

    name = "nesterov"

    @property
    def native(self):
        """See Rule."""
        return "NESTEROV", (self.eta, self.rest)

    def update(self, gradient, state, step):
        """-η (∇ + β v)."""
        eta = self.eta(step, gradient.gap.dtype)
        after = self.mixed(state, gradient)
        ahead = self.mixed(after, gradient)
        return tuple(times(-eta * jnp.exp(v.log_scale), v.tree) for v in ahead), after


@register
@pytree
class NormalisedMomentum(Momentum):
    """Normalised gradient descent with momentum.

        v ← β v + (1 - β) ∇L(W),   W ← W - η v / ‖v‖_F

    Each block is normalised on its own. There is no eps: v vanishes only where every gradient so far did.

    Gradients shrink by about exp(-η/‖W_mm‖) a step. Where that is faster than β, that is η/‖W_mm‖ > log(1/β), v never
    forgets its first gradients, the direction freezes, and W does not converge to the max-margin direction (seen and
    tested here on linear regression; no theorem is claimed).

    Args:
        eta: step length η above 0, or a schedule.
        beta: β from 0 (normalised gradient descent) to below 1.

    Reference:
        Cutkosky and Mehta 2020, arXiv 2002.03305.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.NormalisedMomentum(0.1)
        NormalisedMomentum(eta=0.1, beta=0.9)
    """

    eta: Any
    beta: Any = 0.9
    rest: Any = dataclasses.field(init=False, repr=False)  # 1 - β

    name = "normalised-momentum"

    @property
    def native(self):
        """See Rule."""
        return "NORMALISED_MOMENTUM", (self.eta, self.rest)

    def update(self, gradient, state, step):
        """-(η / ‖v‖) v; the factor 1 - β cancels."""
        eta = self.eta(step, gradient.gap.dtype)
        after = self.mixed(state, gradient)
        lengths = lengths_of(after, gradient)
        return tuple(
            times(jnp.where(length == 0, 0.0, -eta / length), v.tree) for v, length in zip(after, lengths, strict=True)
        ), after
