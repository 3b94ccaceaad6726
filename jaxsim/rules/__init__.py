"""Step-size rules. A rule is one file, and one line here; the order is that of tables, messages and help texts.

`RULES` move W by combinations of gradients and run in any coordinates; `MATRIX_RULES` act on the matrix W itself. Both
grow with what is registered. What a rule of one's own needs is said by `Rule`; the pieces it may be made of are here.
"""

# ruff: noqa: I001
from jaxsim._registry import Part
from jaxsim.rules.base import Constant as Constant, Defaults as Defaults, Rule as Rule, Scaled as Scaled
from jaxsim.rules.base import Scheduled as Scheduled, Stateless as Stateless, decay as decay, mix as mix
from jaxsim.rules.base import pytree as pytree, static as static, step_size as step_size, times as times
from jaxsim.rules.base import zeros_per_lane as zeros_per_lane
from jaxsim.rules.contract import ALL_RULES as ALL_RULES, check_rule as check_rule, numbers_first as numbers_first
from jaxsim.rules.gd import GD as GD
from jaxsim.rules.ngd import NGD as NGD
from jaxsim.rules.polyak import Polyak as Polyak
from jaxsim.rules.momentum import HeavyBall as HeavyBall, Nesterov as Nesterov, NormalisedMomentum as NormalisedMomentum
from jaxsim.rules.adagrad_norm import AdaGradNorm as AdaGradNorm
from jaxsim.rules.coordinatewise import Adam as Adam, Mirror as Mirror, SignDescent as SignDescent
from jaxsim.rules.spectral import Spectral as Spectral
from jaxsim.rules.steepest_momentum import Muon as Muon, Signum as Signum
from jaxsim.rules.hybrid import Hybrid as Hybrid
from jaxsim.rules.coordinatewise import Optax as Optax
from jaxsim.rules.per_block import PerBlock as PerBlock
from jaxsim.rules.decayed import Decayed as Decayed
from jaxsim.rules.sam import SAM as SAM
from jaxsim.rules.optax_by_name import schedule as schedule, transformation as transformation
from jaxsim.rules.as_data import build as build, label as label, parameters as parameters

RULES = Part(ALL_RULES, lambda rule: rule.coordinates is None)
MATRIX_RULES = Part(ALL_RULES, lambda rule: rule.coordinates is not None)
