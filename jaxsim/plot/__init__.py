"""Figures drawn from results alone. Functions of one panel draw on the Axes that they are given and
return them; those of several panels return the Figure.
"""

from jaxsim.basins import BasinMap, Comparison, Continuation, Perturbations, Shells
from jaxsim.plot.accuracy import heads
from jaxsim.plot.along_parameter import continuation, stability
from jaxsim.plot.any_horizon import horizons
from jaxsim.plot.basins import basin_map, comparison, disagreement, maps, robustness, shells, time_map
from jaxsim.plot.borders import borders
from jaxsim.plot.curves import loss_gap, norm, trajectories
from jaxsim.plot.one_lane import attention, attention_map, gaps, lane
from jaxsim.plot.runs import attention_gap, direction_error, overview, token_plane, verdict_bars
from jaxsim.plot.selection_bars import geometry, selections
from jaxsim.plot.studies import fractions, quantity
from jaxsim.plot.style import RULE_COLOURS, VERDICT_COLOURS, colour
from jaxsim.results import Heads, Run, Sweep
from jaxsim.results.drawing import FIGURES
from jaxsim.simulation import Geometry

__all__ = [
    "RULE_COLOURS", "VERDICT_COLOURS", "attention", "attention_gap", "attention_map", "basin_map", "borders", "colour",
    "comparison", "continuation", "direction_error", "disagreement", "fractions", "gaps", "geometry", "heads",
    "horizons", "lane", "loss_gap", "maps", "norm", "overview", "quantity", "robustness", "selections", "shells",
    "stability", "time_map", "token_plane", "trajectories", "verdict_bars",
]  # fmt: skip

FIGURES.update(
    {
        BasinMap: basin_map, Comparison: comparison, Continuation: continuation, Geometry: geometry, Heads: heads,
        Perturbations: robustness, Run: direction_error, Shells: lambda found, **how: shells([found], **how),
        Sweep: lambda found, against, **how: fractions(found.fractions(), against, **how),
    }
)  # fmt: skip
