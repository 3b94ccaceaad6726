"""Running it: from problems, rules and initialisation laws to verdicts on every lane."""

from jaxsim.simulation.arguments import check
from jaxsim.simulation.many import simulate_many
from jaxsim.simulation.one import simulate
from jaxsim.simulation.survey import Survey, survey

__all__ = ["Survey", "check", "simulate", "simulate_many", "survey"]
