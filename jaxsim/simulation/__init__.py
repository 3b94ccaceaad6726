"""Running it: from problems, rules and initialisation laws to verdicts on every lane."""

from jaxsim.simulation.arguments import check
from jaxsim.simulation.many import simulate_many
from jaxsim.simulation.one import simulate

__all__ = ["check", "simulate", "simulate_many"]
