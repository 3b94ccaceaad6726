"""Running it: from problems, rules and initialisation laws to verdicts on every lane."""

from jaxsim.simulation.arguments import check, check_kept
from jaxsim.simulation.geometry import Geometry, geometry
from jaxsim.simulation.linear import LinearRun, regress
from jaxsim.simulation.many import simulate_many
from jaxsim.simulation.one import simulate
from jaxsim.simulation.survey import Survey, survey

__all__ = [
    "Geometry", "LinearRun", "Survey", "check", "check_kept", "geometry", "regress", "simulate", "simulate_many",
    "survey",
]  # fmt: skip
