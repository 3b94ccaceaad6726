"""Running it: from problems, rules and initialisation laws to verdicts on every lane."""

from jaxsim.simulation.checks import check, check_kept
from jaxsim.simulation.crossings import Crossing, crossing
from jaxsim.simulation.geometries import Geometry, geometry, linear_geometry
from jaxsim.simulation.many_problems import simulate_many
from jaxsim.simulation.one_problem import simulate
from jaxsim.simulation.options import Options
from jaxsim.simulation.regression import LinearRun, regress
from jaxsim.simulation.surveys import Survey, survey
from jaxsim.simulation.sweeping import sweep

__all__ = [
    "Crossing", "Geometry", "LinearRun", "Options", "Survey", "check", "check_kept", "crossing", "geometry",
    "linear_geometry", "regress", "simulate", "simulate_many", "survey", "sweep",
]  # fmt: skip
