"""The geometry of initialisation space: where a rule finds the global solution, and how sharp that border is."""

from jaxsim.basins.along_parameter import Continuation, continuation
from jaxsim.basins.border_tracking import Edges, EdgeStates, edge_states, edges
from jaxsim.basins.borders import (
    BasinEntropy,
    UncertaintyExponent,
    basin_entropy,
    intermingledness,
    uncertainty_exponent,
)
from jaxsim.basins.comparison import (
    Comparison,
    Difference,
    compare,
    disagreement,
    paired_difference,
    unpaired_difference,
)  # fmt: skip
from jaxsim.basins.departures import Jumps, jumps
from jaxsim.basins.maps import BasinMap, basin_map
from jaxsim.basins.mixtures import between, flip_labels
from jaxsim.basins.pixels import Pixels
from jaxsim.basins.planes import Plane, limits_plane, plane, random_plane
from jaxsim.basins.reweighting import Reweighted, reweight
from jaxsim.basins.robustness import Perturbations, smallest_perturbation
from jaxsim.basins.spheres import Shells, angles, by_angle, shells
from jaxsim.basins.stability import QUANTIFIERS, Quantifier
from jaxsim.basins.stable_step import stable_step

__all__ = [
    "QUANTIFIERS", "BasinEntropy", "BasinMap", "Comparison", "Continuation", "Difference", "EdgeStates", "Edges",
    "Jumps", "Perturbations", "Pixels", "Plane", "Quantifier", "Reweighted", "Shells", "UncertaintyExponent",
    "angles", "basin_entropy", "basin_map", "between", "by_angle", "compare", "continuation", "disagreement",
    "edge_states", "edges", "flip_labels", "intermingledness", "jumps", "limits_plane", "paired_difference", "plane",
    "random_plane", "reweight", "shells", "smallest_perturbation", "stable_step", "uncertainty_exponent",
    "unpaired_difference",
]  # fmt: skip
