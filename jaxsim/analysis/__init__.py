"""From recorded numbers to verdicts, fractions with intervals, and rates."""

from jaxsim.analysis.assumptions import Conditions, conditions
from jaxsim.analysis.asymptotics import Asymptote, asymptote
from jaxsim.analysis.heads import specialisation
from jaxsim.analysis.intervals import (
    BOUNDS,
    Proportion,
    anytime_bounds,
    exact_bounds,
    fractions,
    median_bounds,
    wilson,
    wilson_bounds,
)
from jaxsim.analysis.limits import Limits, follow
from jaxsim.analysis.prediction import Prediction, attractors, predict
from jaxsim.analysis.quantiles import Sketch
from jaxsim.analysis.rates import Rate, fit_rate, steps_to
from jaxsim.analysis.sharpness import log10_sharpness
from jaxsim.analysis.verdict import VERDICTS, Thresholds, by_direction, by_selection

__all__ = [
    "BOUNDS", "VERDICTS", "Asymptote", "Conditions", "Limits", "Prediction", "Proportion", "Rate", "Sketch",
    "Thresholds", "anytime_bounds", "asymptote", "attractors", "by_direction", "by_selection", "conditions",
    "exact_bounds", "fit_rate", "follow", "fractions", "log10_sharpness", "median_bounds", "predict", "specialisation",
    "steps_to", "wilson", "wilson_bounds",
]  # fmt: skip
