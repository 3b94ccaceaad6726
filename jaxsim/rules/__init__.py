"""Step-size rules. A rule is one file and one line of the registry."""

from jaxsim.rules.adagrad_norm import AdaGradNorm
from jaxsim.rules.base import Rule
from jaxsim.rules.gd import GD
from jaxsim.rules.momentum import HeavyBall, Nesterov, NormalisedMomentum
from jaxsim.rules.ngd import NGD
from jaxsim.rules.per_block import PerBlock
from jaxsim.rules.polyak import Polyak

RULES: dict[str, type] = {
    rule.name: rule for rule in (GD, NGD, Polyak, HeavyBall, Nesterov, NormalisedMomentum, AdaGradNorm)
}

__all__ = [
    "GD",
    "NGD",
    "RULES",
    "AdaGradNorm",
    "HeavyBall",
    "Nesterov",
    "NormalisedMomentum",
    "PerBlock",
    "Polyak",
    "Rule",
]
