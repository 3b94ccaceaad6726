"""The result of one simulation: what was recorded, the verdicts, and the table of selections."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from jaxsim._archive.runs import check_run
from jaxsim.analysis import Proportion, Rate, Thresholds, by_direction, by_selection, fit_rate, fractions, steps_to
from jaxsim.analysis.asymptotics import Asymptote, asymptote, growth
from jaxsim.analysis.limits import same
from jaxsim.analysis.rates import RateLaw
from jaxsim.analysis.verdict import OPEN, SETTLED
from jaxsim.coordinates import Frame, frame_of, least_norm_coefficients
from jaxsim.model import Loss
from jaxsim.problem import Problem
from jaxsim.results.before import mend, of_kinds
from jaxsim.results.labelled import of_run
from jaxsim.results.saved import Saved, said, shares
from jaxsim.results.sharpness import sharpness_of
from jaxsim.results.summary import lane_table, summary
from jaxsim.results.weights import final_weights, start_left

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Run(Saved):
    """Everything that `simulate` returns. Arrays have lanes first; R is the number of recorded steps.

    Of the verdicts, local and transient are predictions, from the support tokens at the last step: rules with
    normalised steps have settled deep by then, but under GD, which is slow, a few local lanes still move.

    Attributes:
        problem: the data.
        settings: how the run was made: rule, init, lanes, steps, loss, dtype, coordinates, key.
        steps: recorded steps, (R,); step k means after k updates. Whole numbers below 2^53, floats beyond.
        norm: ‖W_k‖_F, (lanes, R).
        direction_error: ‖W_k/‖W_k‖ - W^α/‖W^α‖‖ with α the lane's own final selection, (lanes, R); NaN where
            W_k = 0 or α is infeasible.
        log10_grad_norm: log10 ‖∇L‖, (lanes, R).
        log10_gap: log10 (L - L*), L* the infimum of the loss, (lanes, R).
        log10_attention_gap: log10 max_i (1 - φ) of the largest weight, (lanes, R).
        final_logits: (lanes, n, T); 0 at hidden tokens.
        selection: argmax over the visible tokens of the final logits, (lanes, n).
        selection_number: which row of the table of selections, (lanes,).
        selections: the distinct final selections, (U, n), with `limit_norm` ‖W^α‖ (inf where infeasible, NaN where
            unsolved), `limit_status`, `locally_optimal` and `support` (U, n, T).
        report: the rule's per-lane diagnostics, such as Polyak's capped_steps. Where lanes leapt: `leaps` and
            `leaps_refused`; `single_steps`, made one by one; `leapt_from`, the step of the first leap
            (NaN where there was none); `leap_error`, the sum of what the leaps may be off by, relative to the
            largest logit or coefficient; and `stuck_at`, the step at which a lane had made too many single steps
            (2^20; of NGD 2^22 without a leap) and went no further (NaN where none did): it counts as unresolved.
            Under weight decay `next_move`, the next increment over the parameters, by largest entries.
        start, position, outside: ξ_0, final ξ and ‖W_0 outside the span‖² (reduced coordinates).
        converged: lanes whose gradient was, at the end, what rounding leaves of terms that cancel: W is at a minimum of
            the loss and goes nowhere, (lanes,). There are such minima only where rows x_it z_iᵀ depend on each other.
            Under weight decay lanes that have come to rest: see `jaxsim.rules.Decayed`.
        more: what training more than W adds, lanes first; see `jaxsim.train`.
        logits: (lanes, R, n, T), only where asked for.
        coeffs: c in W_k = W_0 + Σ c_it x_it z_iᵀ (under weight decay, of what is left of W_0), (lanes, R, n, T), only
            where asked for.
        thresholds: when a run counts as saturated and aligned.
    """

    kind: ClassVar[str] = "run"

    problem: Problem
    settings: dict[str, Any]
    steps: Real[np.ndarray, " R"]
    norm: Float[np.ndarray, "lanes R"]
    direction_error: Float[np.ndarray, "lanes R"]
    log10_grad_norm: Float[np.ndarray, "lanes R"]
    log10_gap: Float[np.ndarray, "lanes R"]
    log10_attention_gap: Float[np.ndarray, "lanes R"]
    final_logits: Float[np.ndarray, "lanes n T"]
    selection_number: Int[np.ndarray, " lanes"]
    selections: Int[np.ndarray, "U n"]
    limit_norm: Float[np.ndarray, " U"]
    limit_status: np.ndarray
    locally_optimal: Bool[np.ndarray, " U"]
    support: Bool[np.ndarray, "U n T"]
    start: Float[np.ndarray, "lanes size"]
    position: Float[np.ndarray, "lanes size"]
    outside: Float[np.ndarray, " lanes"]
    converged: Bool[np.ndarray, " lanes"]
    report: dict[str, np.ndarray]
    more: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    logits: Float[np.ndarray, "lanes R n T"] | None = None
    coeffs: Float[np.ndarray, "lanes R n T"] | None = None
    thresholds: Thresholds = Thresholds()

    def _said(self):
        return said(self, "Run")

    def _rows(self):
        return shares(self.fractions())

    @property
    def label(self) -> str:
        """A short name for tables and figures: the rule and its step size."""
        return self.settings["label"]

    @property
    def lanes(self) -> int:
        """Number of runs."""
        return len(self.final_logits)

    @property
    def first(self) -> int:
        """Index of the first lane: lane i drew from fold_in(key, first + i)."""
        return self.settings.get("first", 0)

    @property
    def selection(self) -> Int[np.ndarray, "lanes n"]:
        """α_i = argmax_t of the final logits."""
        return self.selections[self.selection_number]

    @property
    def finite(self) -> Bool[np.ndarray, " lanes"]:
        """Lanes whose arithmetic never failed."""
        return self.nonfinite_step < 0

    @property
    def log10_steps(self) -> Float[np.ndarray, " R"]:
        """log10 of the recorded steps; -inf for step 0."""
        with np.errstate(divide="ignore"):
            return np.log10(self.steps.astype(float))

    def steps_to(self, error: float) -> Float[np.ndarray, " lanes"]:
        """The step from which the direction error of each lane stays at or below `error`; NaN where it does not.

        Between recorded steps log error is taken as linear in log step (convention of this project).
        """
        return steps_to(self.steps, self.direction_error, error)

    @property
    def nonfinite_step(self) -> Real[np.ndarray, " lanes"]:
        """The first recorded step at which a lane was not finite; -1 for sound lanes."""
        bad = ~((self.log10_grad_norm < np.inf) & np.isfinite(self.norm))  # a gradient of 0 is sound
        bad[:, -1] |= ~np.isfinite(self.final_logits).all((1, 2))
        return np.where(bad.any(1), self.steps[bad.argmax(1)], -1)

    @property
    def saturated(self) -> Bool[np.ndarray, "lanes R"]:
        """Whether max_i (1 - φ_i) is at most its threshold, at every recorded step."""
        return self.log10_attention_gap <= np.log10(self.thresholds.saturation)

    @property
    def settled_step(self) -> Real[np.ndarray, " lanes"]:
        """The first recorded step from which attention stays saturated; -1 where it does not, or is not finite."""
        stays = np.flip(np.logical_and.accumulate(np.flip(self.saturated, 1), 1), 1)
        return np.where(stays[:, -1] & self.finite, self.steps[stays.argmax(1)], -1)

    @property
    def verdict(self) -> np.ndarray:
        """The verdict on each lane by selection, (lanes,) of names."""
        number = self.selection_number
        return by_selection(
            finite=self.finite,
            feasible=~np.isinf(self.limit_norm)[number],
            saturated=self.saturated[:, -1] & ~self._stuck,
            optimal=same(self.selection, self._scores.argmax(-1)),
            locally_optimal=self._locally_optimal,
        )

    @property
    def open(self) -> Bool[np.ndarray, " lanes"]:
        """Lanes that more steps may decide: transient or unresolved, and not at a minimum."""
        return np.isin(self.verdict, OPEN) & ~self.converged

    @property
    def _stuck(self) -> Bool[np.ndarray, " lanes"]:
        """Lanes that did not come to the horizon; see `jaxsim.driver.leap`."""
        return ~np.isnan(self.report.get("stuck_at", np.full(self.lanes, np.nan)))

    @property
    def _scores(self) -> Float[np.ndarray, "lanes_or_1 n T"]:
        """Token scores, -inf where hidden: the lane's own where the decoder was trained."""
        fixed = np.where(self.problem.visible, self.problem.scores, -np.inf)[None]
        return self.more.get("final_scores", fixed)

    @property
    def _locally_optimal(self) -> Bool[np.ndarray, " lanes"]:
        """Whether no support token outscores the selected one, under the lane's scores."""
        number, scores = self.selection_number, self._scores
        if "final_scores" not in self.more:
            return self.locally_optimal[number]
        selected = np.take_along_axis(scores, self.selection[:, :, None], 2)
        return ~np.any(self.support[number] & (scores > selected), axis=(1, 2))  # type: ignore[return-value]

    @property
    def verdict_by_direction(self) -> np.ndarray:
        """The verdict where W is also aligned with its W^α; unresolved where it is not."""
        return by_direction(self.verdict, self.direction_error[:, -1], self.thresholds)

    def fractions(self, level: float = 0.95) -> dict[str, Proportion]:
        """The proportion of lanes with each verdict, with Wilson intervals; denominators are all lanes."""
        return fractions(self.verdict, level)

    def rate(self, law: RateLaw = "power", window: tuple[int, int] | None = None) -> Rate:
        """The rate of the direction error over lanes that ended global or local; see `fit_rate`."""
        decided = np.isin(self.verdict, SETTLED)
        return fit_rate(self.steps, self.direction_error[decided], law, window)

    def asymptote(self, window: tuple[float, float] = (1e3, 1e6)) -> Asymptote:
        """W_t = u(t) W^α/‖W^α‖ + r_t of every lane, and the constants of the laws; see `jaxsim.analysis.Asymptote`.

        Args:
            window: first and last step of an early fit, which shows how far off such fits are.
        """
        law, settings = self.settings["predicts"], self.settings
        alone, limit = settings.get("train", "weights") == "weights", self.limit_norm[self.selection_number]
        speed = growth(law, limit, settings.get("step_length"), alone)
        return asymptote(self.steps, self.norm, self.direction_error, law, speed, window)

    def sharpness(self, loss: Loss | None = None) -> Float[np.ndarray, "lanes R"]:
        """Log10 of the largest eigenvalue of ∇²L(W) at every recorded step; see `jaxsim.analysis.log10_sharpness`.

        Args:
            loss: ℓ, where it is one of your own.

        Raises:
            ValueError: where more than W was trained, or the run has not kept its logits.
        """
        return sharpness_of(self, loss)

    @property
    def frame(self) -> Frame:
        """The reduced coordinates that the run used."""
        return frame_of(self.problem, self.settings["coordinates"])

    @property
    def final_coeffs(self) -> Float[np.ndarray, "lanes n T"]:
        """Coefficients c of W = W_0 + Σ_it c_it x_it z_iᵀ at the end: as recorded if kept, else of least norm.

        Under weight decay of W = p W_0 + …, with p what it has left of the start.
        """
        if self.coeffs is not None:
            return self.coeffs[:, -1]
        n, T, _ = self.problem.shape
        return least_norm_coefficients(self.frame, self.position - start_left(self) * self.start, n, T)

    def W(self, lane: int) -> Float[np.ndarray, "d e"]:
        """The final W of a lane, lifted to its full size.

        The part of W_0 outside the span never moves, but for weight decay. Of random starts only its norm is drawn
        during the run; here a matrix with that norm is drawn for the lane, always the same, and so for starts in
        reduced coordinates (`Reduced`). Of other given starts it is the given part.
        """
        return final_weights(self, lane)

    def summary(self) -> dict[str, Any]:
        """The figures of the printed table, as plain numbers; None where there is none. Computed once."""
        return self._summary

    @functools.cached_property
    def _summary(self) -> dict[str, Any]:
        return summary(self)

    @property
    def more_curves(self) -> dict[str, Float[np.ndarray, "lanes R"]]:
        """What the trained thing adds at every recorded step; `settings["curves"]` has their headings."""
        return {name: self.more[name] for name in self.settings["curves"] if name in self.more}

    def to_pandas(self) -> "pandas.DataFrame":
        """One row per lane: verdicts, selection, and the final values of everything recorded."""
        return lane_table(self)

    def to_xarray(self) -> "xarray.Dataset":
        """Everything recorded, (lane, step), with verdicts, selections and final logits; names, units, and settings."""
        return of_run(self)

    @classmethod
    def _mend(cls, path, fields):
        """See Saved."""
        mend(path, fields)

    @classmethod
    def _check(cls, path, fields):
        """See Saved."""
        check_run(path, fields, of_kinds("finals"))
