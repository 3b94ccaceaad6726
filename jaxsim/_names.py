"""The public names of the package, which `jaxsim` takes from here when the first of them is asked for."""

from jaxsim import basins, data, init, plot, report, rules, storage, study, train
from jaxsim._bars import bar
from jaxsim._plugins import register
from jaxsim.analysis import Thresholds, attractors, conditions, predict
from jaxsim.driver import compilations
from jaxsim.head import heads
from jaxsim.margin import MarginSolver, MaxMargin, max_margin
from jaxsim.model import losses
from jaxsim.normed import NormedMargin
from jaxsim.problem import Problem
from jaxsim.results import Heads, Run, Sweep
from jaxsim.simulation import (
    Crossing,
    LinearRun,
    Survey,
    crossing,
    geometry,
    linear_geometry,
    regress,
    simulate,
    simulate_many,
    survey,
    sweep,
)
from jaxsim.study import open_study

__all__ = [
    "Crossing",
    "Heads",
    "LinearRun",
    "MarginSolver",
    "MaxMargin",
    "NormedMargin",
    "Problem",
    "Run",
    "Survey",
    "Sweep",
    "Thresholds",
    "attractors",
    "bar",
    "basins",
    "compilations",
    "conditions",
    "crossing",
    "data",
    "geometry",
    "heads",
    "init",
    "linear_geometry",
    "losses",
    "max_margin",
    "open_study",
    "plot",
    "predict",
    "register",
    "regress",
    "report",
    "rules",
    "simulate",
    "simulate_many",
    "storage",
    "study",
    "survey",
    "sweep",
    "train",
]
