"""Step-size rules. A rule is one file and one line of a registry.

`RULES` move W by combinations of gradients and run in any coordinates; `MATRIX_RULES` act on the matrix W itself.
"""

from jaxsim.rules.adagrad_norm import AdaGradNorm
from jaxsim.rules.base import Rule
from jaxsim.rules.coordinatewise import Adam, Mirror, Optax, SignDescent
from jaxsim.rules.gd import GD
from jaxsim.rules.momentum import HeavyBall, Nesterov, NormalisedMomentum
from jaxsim.rules.ngd import NGD
from jaxsim.rules.per_block import PerBlock
from jaxsim.rules.polyak import Polyak
from jaxsim.rules.spectral import Spectral

RULES: dict[str, type] = {
    rule.name: rule for rule in (GD, NGD, Polyak, HeavyBall, Nesterov, NormalisedMomentum, AdaGradNorm)
}

MATRIX_RULES: dict[str, type] = {rule.name: rule for rule in (SignDescent, Adam, Mirror, Spectral)}

__all__ = [
    "GD",
    "MATRIX_RULES",
    "NGD",
    "RULES",
    "AdaGradNorm",
    "HeavyBall",
    "Nesterov",
    "NormalisedMomentum",
    "PerBlock",
    "Polyak",
    "Rule",
    "Spectral",
    "SignDescent",
    "Optax",
    "Mirror",
    "Adam",
]
