"""Which steps are recorded."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from jaxsim._check import whole_number

PER_DECADE = 10
LARGEST_STEP = 2**31 - 1  # devices count in 32 bits


def record_steps(steps: int, record: Sequence[int] | None = None) -> Int[np.ndarray, " R"]:
    """The recorded steps in ascending order; the horizon is always one of them.

    Args:
        steps: the horizon S.
        record: steps to record, from 0 to S; step k means after k updates. By default 0 and about ten per
            decade, evenly in log k.

    Raises:
        ValueError: where a step is negative, beyond the horizon or not whole.

    Example:
        >>> record_steps(10, [0, 5]).tolist()
        [0, 5, 10]
    """
    whole_number("steps", steps, at_most=LARGEST_STEP)
    if record is None:
        count = max(2, round(PER_DECADE * np.log10(max(steps, 2))) + 1)
        chosen = np.concatenate([[0], np.rint(np.geomspace(1, steps, count)).astype(int)])
    else:
        chosen = np.array([whole_number("record", k, at_least=0) for k in record], dtype=int)
        if len(chosen) and chosen.max() > steps:
            raise ValueError(f"record: expected steps up to the horizon {steps}; got {chosen.max()}")
    return np.unique(np.append(chosen, steps))
