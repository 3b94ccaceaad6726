"""What linear regression came to."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Real

from jaxsim._text import counted
from jaxsim.analysis import Rate, fit_rate
from jaxsim.analysis.rates import RateLaw
from jaxsim.results.saved import Saved


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LinearRun(Saved):
    """What `regress` returns. Lanes first; R recorded steps.

    Attributes:
        settings: how the lanes were made.
        steps: recorded steps, (R,).
        limit: w_mm, the hard-margin solution, (d,); NaN where the data are not separable.
        norm: ‖w_k‖, (lanes, R).
        direction_error: ‖w_k/‖w_k‖ - w_mm/‖w_mm‖‖, (lanes, R); NaN at w = 0.
        margin_gap: 1 - (least margin of w_k/‖w_k‖) ‖w_mm‖, (lanes, R).
        log10_loss: log10 L, at any depth, (lanes, R).
        log10_grad_norm: log10 ‖∇L‖, (lanes, R).
        converged: lanes at a minimum of the loss, which data that are not separable have, (lanes,).
        w: the last w, its part in the span of the features, (lanes, d).
        report: the rule's per-lane diagnostics.
    """

    kind: ClassVar[str] = "linear run"

    settings: dict[str, Any]
    steps: Real[np.ndarray, " R"]
    limit: Float[np.ndarray, " d"]
    norm: Float[np.ndarray, "lanes R"]
    direction_error: Float[np.ndarray, "lanes R"]
    margin_gap: Float[np.ndarray, "lanes R"]
    log10_loss: Float[np.ndarray, "lanes R"]
    log10_grad_norm: Float[np.ndarray, "lanes R"]
    converged: Bool[np.ndarray, " lanes"]
    w: Float[np.ndarray, "lanes d"]
    report: dict[str, np.ndarray]

    @property
    def label(self) -> str:
        """A short name for tables and figures: the rule and its step size."""
        return self.settings["label"]

    def rate(self, law: RateLaw = "power", window: tuple[int, int] | None = None) -> Rate:
        """The rate of the direction error over lanes; see `fit_rate`."""
        return fit_rate(self.steps, self.direction_error, law, window)

    def _said(self):
        lanes, steps = self.norm.shape[0], self.steps[-1]
        error = self.direction_error[:, -1]
        came = (
            f"median direction error {np.nanmedian(error):.3g}" if np.isfinite(error).any() else "no hard-margin limit"
        )
        made = f"{lanes:,} lanes, {counted(steps)} steps, {self.settings['loss']}, {self.settings['dtype']}"
        return f"LinearRun of {self.settings['rule']} in {len(self.limit)} dimensions", made, came

    @classmethod
    def _mend(cls, path, fields):
        fields.setdefault("report", {})
        fields.setdefault("w", np.full((len(fields["norm"]), len(fields["limit"])), np.nan))
