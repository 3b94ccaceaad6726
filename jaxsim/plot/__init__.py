"""Figures drawn from results alone. Every function draws on the Axes it is given and returns them."""

from jaxsim.plot.basins import basin_map, comparison, continuation, disagreement, maps, robustness, shells, time_map
from jaxsim.plot.heads import heads
from jaxsim.plot.runs import (
    RULE_COLOURS,
    VERDICT_COLOURS,
    attention_gap,
    colour,
    direction_error,
    overview,
    token_plane,
    verdict_bars,
)  # fmt: skip
from jaxsim.plot.studies import fractions

__all__ = [
    "RULE_COLOURS", "VERDICT_COLOURS", "attention_gap", "basin_map", "colour", "comparison", "continuation",
    "direction_error", "disagreement", "fractions", "heads", "maps", "overview", "robustness", "shells", "time_map",
    "token_plane", "verdict_bars",
]  # fmt: skip
