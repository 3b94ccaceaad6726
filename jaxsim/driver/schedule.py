"""Which steps are recorded."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Real

from jaxsim._check import step_number
from jaxsim.rules.base import Rule

PER_DECADE = 10
LARGEST_STEP = 2**31 - 1  # devices count in 32 bits
LARGEST_HORIZON = {"float32": int(1e30), "float64": int(1e300)}  # of lanes that leap, by dtype
LEAPS_FROM = 2_000  # until then every step is made
STRIDES_FROM = 20_000  # of rules that keep their pace
LEAPS_COST = 8_000  # steps that take about as long as the leaps of a lane to any horizon
EXACT = 2**53  # whole numbers below that are numbers of float64


def record_steps(
    steps: int, record: Sequence[int] | None = None, at_most: int = LARGEST_STEP
) -> Real[np.ndarray, " R"]:
    """The recorded steps in ascending order, whole numbers in floats from 2^53; the horizon is always one of them.

    Args:
        steps: the horizon S.
        record: steps to record, from 0 to S; step k means after k updates. By default 0 and about ten per
            decade, evenly in log k.
        at_most: the longest horizon.

    Raises:
        ValueError: where a step is negative, beyond the horizon or not whole.

    Example:
        >>> record_steps(10, [0, 5]).tolist()
        [0, 5, 10]
    """
    steps = step_number("steps", steps, at_most=at_most)
    kind = int if steps < EXACT else float
    if record is None:
        count = max(2, round(PER_DECADE * math.log10(max(steps, 2))) + 1)
        chosen = np.concatenate([[0], np.rint(np.geomspace(1, float(steps), count)).astype(kind)])
    else:
        asked = [step_number("record", k, at_least=0) for k in record]
        if asked and max(asked) > steps:
            raise ValueError(f"record: expected steps up to the horizon {steps}; got {max(asked)}")
        chosen = np.array(asked, dtype=kind)
    return np.unique(np.append(chosen, kind(steps)))


def leaps_from(rule: Rule) -> int:
    """The step from which the lanes of a rule leap; until then every step is made."""
    return STRIDES_FROM if rule.keeps_pace else LEAPS_FROM


def split(recorded: Real[np.ndarray, " R"], first: int) -> tuple[Real[np.ndarray, " S"], Real[np.ndarray, " L"]]:
    """The recorded steps up to the first from which lanes leap, with it where others follow; and the others."""
    near, far = recorded[recorded <= first], recorded[recorded > first]
    return (np.union1d(near, [first]) if len(far) else near), far
