"""From a chunk of lanes, as the driver leaves it, to the rows of a result."""

from collections.abc import Collection
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.analysis import Limits, follow
from jaxsim.coordinates import least_norm_coefficients
from jaxsim.results.lanes import Lanes
from jaxsim.simulation.rest import at_rest
from jaxsim.train import Known, Train, View
from jaxsim.train.base import LOG10


def analyse(
    limits: Limits,
    train: Train,
    saturation: float,
    known: Known,
    records: Any,
    final: Float[np.ndarray, "lanes n T"],
    report: dict[str, np.ndarray],
    kept: Collection[str],
    solved: dict[Any, Any],
) -> Lanes:
    """Hold lanes against the limits of their selections.

    Args:
        limits: the selections met so far; new ones are added and solved.
        train: what was trained.
        saturation: lanes with a smaller attention gap are held against their limit.
        known: where the lanes began.
        records: what was recorded of them, a `jaxsim.model.records.Records`.
        final: their final logits.
        report: the rule's diagnostics.
        kept: "logits" and "coeffs" where they are to be kept at every recorded step.
        solved: what `train` has solved for selections in earlier chunks.
    """
    dtype = final.dtype
    records, report = jax.tree.map(lambda value: np.asarray(value, np.float64), (records, report))
    visible = limits.problem.visible
    selection, needed = selected(visible, final), near(saturation, records.log_attention_gap[:, -1])
    number = limits.number(selection, needed)
    with np.errstate(invalid="ignore", over="ignore"):
        xi, apart = train.locate(limits.frame, known, records.position)
        unit = limits.of(number, needed)
        norm, error = follow(xi, apart, unit)
        final_logits = limits.frame.logits(xi[:, -1])
        every_logits = limits.frame.logits(xi) if "logits" in kept else None
    view = View(limits.problem, limits.frame, records, known, selection, norm, unit, solved)
    return Lanes(
        norm=norm,
        direction_error=error,
        log10_grad_norm=records.log_grad_norm / LOG10,
        log10_gap=records.log_gap / LOG10,
        log10_attention_gap=records.log_attention_gap / LOG10,
        final_logits=final_logits,
        selection_number=number,
        start=known.xi,
        position=np.array(xi[:, -1]),
        outside=known.outside if known.outside.ndim == 1 else apart[:, -1],
        converged=at_rest(xi, apart, known, records, report, visible.size, dtype),
        report=report,
        more=train.columns(view),
        logits=every_logits,
        coeffs=_coefficients(limits, records.position, xi, known) if "coeffs" in kept else None,
    )


def selected(visible: np.ndarray, final: Float[np.ndarray, "lanes n T"]) -> Int[np.ndarray, "lanes n"]:
    """α_i = argmax_t of the final logits over the visible tokens; the first of them where none is a number."""
    seen = np.where(visible & ~np.isnan(final), final, -np.inf)
    return np.where((seen == -np.inf).all(-1), visible.argmax(-1), seen.argmax(-1))


def near(saturation: float, log_gap: Float[np.ndarray, " lanes"]) -> Bool[np.ndarray, " lanes"]:
    """Which lanes are held against the limit of their selection, by their attention gap."""
    return log_gap <= np.log(saturation) if saturation > 0 else np.zeros(len(log_gap), bool)


def _coefficients(limits: Limits, position: np.ndarray, xi: np.ndarray, known: Known) -> np.ndarray:
    """C at every recorded step: as recorded, or of least norm."""
    found = limits.frame.coefficients(position)
    if found is not None:
        return found
    start = known.xi[:, None] * known.left(0)[:, None]
    return least_norm_coefficients(limits.frame, xi - start, *limits.problem.visible.shape)
