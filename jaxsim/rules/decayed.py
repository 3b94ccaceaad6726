"""Weight decay beside the increments of any rule that has a step size."""

from typing import Any

from jaxsim._check import number_from_zero
from jaxsim._numbers import Axis, numbers
from jaxsim._tree import pytree, static
from jaxsim.rules.around import Around, check_inner
from jaxsim.rules.base import Constant, Scheduled, WeightDecay


@pytree
class Decayed(Around):
    """Decoupled weight decay around any rule with a step size.

        W ← (1 - η λ) W + the increment of the rule

    with η the rule's step size at that step, for every block of parameters. In reduced coordinates logits and
    coefficients shrink alike, W_k = p_k W_0 + Φᵀ c_k with p_k = Π (1 - η λ), and so does what lies outside the span:
    the reduction stays exact. `Decayed(Adam(η), λ)` is AdamW. Where the rule comes to rest, its increment is η λ W:
    with GD W is a stationary point of L(W) + (λ/2) ‖W‖², and with NGD one of L on the sphere ‖W‖ = 1/λ. W does not
    diverge. `Run.converged` tells the lanes of which, in the time in which decay alone would halve W, nothing has moved
    but by rounding. Of verdicts, local and transient are predictions for training without decay. Every step is made: no
    leaps, and no machine code.

    Args:
        rule: a rule with a step size `eta`, a number or a schedule.
        rate: λ, 0 or more, with η λ < 1. At 0 it is the rule itself, bit for bit.

    Reference:
        As optax.adamw, whose decay is multiplied by the step size too (convention of this project for other rules).

    Example:
        >>> import jaxsim
        >>> jaxsim.rules.Decayed(jaxsim.rules.Adam(0.01), 0.1)
        Decayed(rule=Adam(eta=0.01, beta1=0.9, beta2=0.999, eps=0.0), rate=0.1)
    """

    rule: Any
    rate: Any
    decays: bool = static(init=False, repr=False)  # λ > 0; elsewhere the program is that of the rule alone

    name = "decayed"
    predicts = "power"
    stepped_because = "weight decay brings its lanes to rest"
    keeps_pace = False
    step_length = None
    native = None
    undecayed_because = "it has weight decay"

    def __post_init__(self):
        rule = self.rule
        check_inner(rule)
        if rule.undecayed_because or not hasattr(rule, "eta"):
            why = rule.undecayed_because or "it has no step size eta"
            raise ValueError(f"rule: expected one that weight decay can be added to; got {rule!r}: {why}")
        if not isinstance(rule.eta, Constant | Scheduled | Axis):
            raise ValueError(f"rule: expected one whose eta is made by jaxsim.rules.step_size; got {rule!r}")
        rate = numbers("rate", self.rate, number_from_zero)
        if isinstance(rate, Axis) and 0 in rate.values:
            raise ValueError(f"rate: expected numbers above 0 in a list; got {rate!r}. At 0 the rule is itself")
        object.__setattr__(self, "rate", rate)
        object.__setattr__(self, "decays", rate != 0)
        if isinstance(rule.eta, Constant) and not isinstance(rate, Axis) and not rule.eta.value * rate < 1:
            raise ValueError(f"rate: expected less than 1/η = {1 / rule.eta.value:g}; got {rate!r}")

    def weight_decay(self, block):
        """See Rule."""
        return WeightDecay(self.rule.eta, self.rate) if self.decays else None
