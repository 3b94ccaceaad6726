"""Where lanes go no further: at a minimum of the loss, or at rest under weight decay."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Real

from jaxsim.model.gradient import nothing_below
from jaxsim.rules import Rule
from jaxsim.train import Known


def log_left(rule: Rule, recorded: Real[np.ndarray, " R"], block: int) -> Float[np.ndarray, " _"]:
    """Log of what weight decay has left of the start of a block at every recorded step; without decay 0, (1,)."""
    decay = rule.weight_decay(block)
    return np.zeros(1) if decay is None else decay.log_left(recorded)


def at_rest(
    xi: Float[np.ndarray, "lanes R size"],
    apart: Float[np.ndarray, "lanes _"],
    known: Known,
    records: Any,
    report: dict[str, np.ndarray],
    terms: int,
    dtype: Any,
) -> Bool[np.ndarray, " lanes"]:
    """Lanes that go no further.

    Without weight decay those whose last gradient is what rounding leaves of terms that cancel. With it, those of which
    nothing has moved, but by rounding, in the time in which decay alone would halve W, and does not in the next step
    either: what decay takes away, the rule brings back.

    Args:
        xi: ξ at every recorded step.
        apart: ‖W outside‖² likewise, or always.
        known: where the lanes began.
        records: what was recorded of them.
        report: the rule's diagnostics.
        terms: terms of the gradient.
        dtype: of the run.
    """
    rounding = nothing_below(terms, dtype)
    if "next_move" not in report:
        return records.log_cancellation[:, -1] <= rounding
    left = known.log_left(0)
    before = np.flatnonzero(left[-1] - left <= -np.log(2))
    if len(before) == 0:
        return np.zeros(len(xi), bool)
    outside = np.broadcast_to(np.sqrt(apart), xi.shape[:2])[:, :, None]
    carried = [np.concatenate([xi, outside], 2), records.position, *records.more.values()]
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = [_moved(x[:, before[-1]], x[:, -1]) for x in carried]
        return np.max([report["next_move"], *moved], axis=0) <= np.exp(rounding)


def _moved(before: np.ndarray, after: np.ndarray) -> Float[np.ndarray, " lanes"]:
    """The largest change of an entry over the largest entry."""
    change, size = np.abs(after - before).max(1), np.abs(after).max(1)
    return np.where(change == 0, 0.0, change / size)
