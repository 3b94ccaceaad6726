"""Results: what was recorded, verdicts, and how they are saved."""

from jaxsim.results.before import STARTS
from jaxsim.results.heads import Heads
from jaxsim.results.lanes import CURVES, Lanes, joined
from jaxsim.results.linear import LinearRun
from jaxsim.results.run import Run
from jaxsim.results.saved import Saved
from jaxsim.results.survey import Survey
from jaxsim.results.sweep import Sweep

__all__ = ["CURVES", "STARTS", "Heads", "Lanes", "LinearRun", "Run", "Saved", "Survey", "Sweep", "joined"]
