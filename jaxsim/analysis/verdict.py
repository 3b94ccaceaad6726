"""The verdict on a run: one of six names, none dropped from a denominator."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim._check import finite_number

MEANINGS = {
    "global": "attention settled on the best token of every sequence",
    "local": "on other tokens, predicted to hold",
    "transient": "on tokens predicted to lose, given more steps",
    "unresolved": "not settled yet",
    "infeasible": "no max-margin solution",
    "nonfinite": "arithmetic failed",
}
VERDICTS = tuple(MEANINGS)
SETTLED = ("global", "local")  # the first of them: attention stays where it is
OPEN = ("transient", "unresolved")  # more steps may decide
COMMON = VERDICTS[:4]  # all but those of faults
PREDICTION = (
    "local and transient are predictions, from the support tokens at the last step: rules with normalised steps have "
    "settled deep by then, but under GD, which is slow, a few local lanes still move."
)


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """When a run counts as decided (conventions of this project).

    Args:
        saturation: a run is saturated when max_i (1 - φ_{i,α_i}) is at most this; between 0 and 1.
        alignment: a run is aligned when 1 - ⟨W, W^α⟩/(‖W‖‖W^α‖), half the squared direction error, is at most this;
            between 0 and 2.
    """

    saturation: float = 0.05
    alignment: float = 0.01

    def __post_init__(self):
        for name, bound in (("saturation", 1), ("alignment", 2)):
            number = finite_number(name, getattr(self, name))
            if not 0 < number < bound:
                raise ValueError(f"{name}: expected a number between 0 and {bound}; got {number}")


def by_selection(
    finite: Bool[np.ndarray, " lanes"],
    feasible: Bool[np.ndarray, " lanes"],
    saturated: Bool[np.ndarray, " lanes"],
    optimal: Bool[np.ndarray, " lanes"],
    locally_optimal: Bool[np.ndarray, " lanes"],
) -> np.ndarray:
    """The verdict of each lane.

    nonfinite: arithmetic failed; infeasible: the att-SVM of the selection has no solution, or none within rounding;
    unresolved: not saturated within the horizon; global: saturated on the optimal token of every sequence; local: on
    another selection that is locally optimal; transient: on one that is not, predicted to leave given more steps.

    In short, local and transient are predictions, from the support tokens at the last step: rules with normalised
    steps have settled deep by then, but under GD, which is slow, a few local lanes still move. Of 75 that GD had left
    local at step 2,000, 4 had moved by step 60,000, one of them to global; its attention gap had been 0.003.
    """
    conditions = [~finite, ~feasible, ~saturated, optimal, locally_optimal]
    return np.select(conditions, ["nonfinite", "infeasible", "unresolved", "global", "local"], "transient")


def by_direction(
    verdict: np.ndarray, direction_error: Float[np.ndarray, " lanes"], thresholds: Thresholds
) -> np.ndarray:
    """The same verdicts for lanes whose W is also aligned with its W^α; unresolved where it is not yet."""
    decided = np.isin(verdict, ("global", "local", "transient"))
    with np.errstate(invalid="ignore"):
        aligned = direction_error**2 / 2 <= thresholds.alignment
    return np.where(decided & ~aligned, "unresolved", verdict)


def codes(verdict: np.ndarray) -> Int[np.ndarray, " lanes"]:
    """The place of each verdict in `VERDICTS`, as small integers."""
    return np.select([verdict == name for name in VERDICTS], range(len(VERDICTS))).astype(np.int8)


def is_settled(codes: Int[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Which of these places are those of a settled verdict."""
    return codes < len(SETTLED)
