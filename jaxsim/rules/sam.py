"""Sharpness-aware minimisation around any rule."""

from typing import Any

import jax.numpy as jnp

from jaxsim._check import number_from_zero
from jaxsim._numbers import Axis, numbers
from jaxsim._tree import pytree, static
from jaxsim.rules.around import Around, check_inner
from jaxsim.rules.base import Constant, Scheduled, times


@pytree
class SAM(Around):
    """Sharpness-aware minimisation around any rule.

        W ← W + the increment of the rule at W + ρ ∇L(W)/‖∇L(W)‖

    The rule sees everything there, gradient and loss gap, and moves W. ‖·‖ is over all blocks of parameters: for
    joint training that of W and u, for key-query training that of K and Q; `PerBlock(SAM(…), …)` displaces a block by
    its own. The displacement is a combination of data, so that the reduction stays exact, and it is made of the
    direction of the gradient alone, right at any depth. The second gradient of a step takes as long as the first; of
    minibatches both are of the same sequences. Lanes leap, or go in strides, where those of the rule do, unless ρ is a
    schedule and they go in strides. There is no machine code.

    Args:
        rule: any rule whose gradient is taken at W.
        rho: ρ, 0 or more, or a schedule. At 0 it is the rule itself, bit for bit.
        normalise: False for W + ρ ∇L(W), without the norm.

    Reference:
        Foret, Kleiner, Mobahi, Neyshabur 2021, arXiv 2010.01412; without the norm Andriushchenko and Flammarion 2022,
        arXiv 2206.06232.

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.SAM(jaxsim.rules.GD(0.5), 0.1)
        SAM(rule=GD(eta=0.5), rho=0.1, normalise=True)
    """

    rule: Any
    rho: Any
    normalise: bool = static(default=True)
    displaces: bool = static(init=False, repr=False)  # ρ > 0; elsewhere the program is that of the rule alone

    name = "sam"
    native = None
    undecayed_because = "SAM(Decayed(…), …) decays it"

    def __post_init__(self):
        check_inner(self.rule)
        if not isinstance(self.normalise, bool):
            raise ValueError(f"normalise: expected True or False; got {self.normalise!r}")
        object.__setattr__(self, "rho", _radius(self.rho))
        object.__setattr__(self, "displaces", not isinstance(self.rho, Constant) or self.rho.value > 0)

    @property
    def predicts(self):
        """As the rule."""
        return self.rule.predicts

    @property
    def keeps_pace(self):
        """As the rule."""
        return self.rule.keeps_pace

    @property
    def stepped_because(self):
        """As the rule; and where increments that tend to a constant would follow a schedule."""
        if self.keeps_pace and isinstance(self.rho, Scheduled):
            return "its gradient is taken as far away as its schedule says"
        return self.rule.stepped_because

    @property
    def step_length(self):
        """As the rule."""
        return self.rule.step_length

    def weight_decay(self, block):
        """As the rule."""
        return self.rule.weight_decay(block)

    def displacement(self, gradient, state, step):
        """ρ ∇/‖∇‖, 0 where there is no gradient; or ρ ∇."""
        move = self.rule.displacement(gradient, state, step)
        if not self.displaces:
            return move
        if move is not None:
            raise ValueError(f"rule: expected one whose gradient is taken at W; got {self.rule!r}")
        rho = self.rho(step, gradient.gap.dtype)
        if not self.normalise:
            return tuple(times(rho * jnp.exp(b.log_scale), b.direction) for b in gradient.blocks)
        norm, scale = gradient.scaled_norm
        return tuple(
            times(jnp.where(norm == 0, 0.0, rho / norm * jnp.exp(b.log_scale - scale)), b.direction)
            for b in gradient.blocks
        )


def _radius(value: Any) -> Any:
    """A Constant, a Scheduled or, of several, an Axis."""
    if isinstance(value, Constant | Scheduled):
        return value
    if callable(value):
        return Scheduled(value)
    rho = numbers("rho", value, number_from_zero)
    if isinstance(rho, Axis) and 0 in rho.values:
        raise ValueError(f"rho: expected numbers above 0 in a list; got {rho!r}. At 0 the rule is itself")
    return rho if isinstance(rho, Axis) else Constant(rho)
