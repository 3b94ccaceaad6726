"""Results: what was recorded, verdicts, and how they are saved."""

from jaxsim.results.run import CURVES, MORE_CURVES, STARTS, Run, short_rule
from jaxsim.results.saved import Saved

__all__ = ["CURVES", "MORE_CURVES", "STARTS", "Run", "Saved", "short_rule"]
