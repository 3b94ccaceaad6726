"""The result of one simulation: what was recorded, the verdicts, and the table of selections."""

import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim import _archive
from jaxsim._archive.runs import check_run
from jaxsim.analysis import Proportion, Rate, Thresholds, by_direction, by_selection, fit_rate, fractions
from jaxsim.analysis.limits import same
from jaxsim.analysis.rates import RateLaw
from jaxsim.model.frames import Frame, frame_of, least_norm_coefficients
from jaxsim.problem import Problem
from jaxsim.rules.label import short_rule

if TYPE_CHECKING:
    import matplotlib.axes
    import pandas

STARTS = ("given", "given_weights")  # settings that are arrays: the part of given starts outside the span
# One number per lane and recorded step.
CURVES = ("direction_error", "log10_attention_gap", "log10_grad_norm", "log10_gap", "norm")
# Of `Run.more`, what is one number per lane and recorded step.
MORE_CURVES = (
    "log10_loss", "decoder_norm", "decoder_direction_error", "decoder_margin_gap", "effective_rank",
    "nuclear_direction_error",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """Everything that `simulate` returns. Arrays have lanes first; R is the number of recorded steps.

    Of the verdicts, local and transient are predictions, from the support tokens at the last step: rules with
    normalised steps have settled deep by then, but under GD, which is slow, a few local lanes still move.

    Attributes:
        problem: the data.
        settings: how the run was made: rule, init, lanes, steps, loss, dtype, coordinates, key.
        steps: recorded steps, (R,); step k means after k updates.
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
        report: the rule's per-lane diagnostics, such as Polyak's capped_steps.
        start, position, outside: ξ_0, final ξ and ‖W_0 outside the span‖² (reduced coordinates).
        converged: lanes whose gradient was, at the end, what rounding leaves of terms that cancel: W is at a minimum of
            the loss and goes nowhere, (lanes,). There are such minima only where rows x_it z_iᵀ depend on each other.
        more: what training more than W adds, lanes first; see `jaxsim.train`.
        logits: (lanes, R, n, T), only where asked for.
        coeffs: c in W_k = W_0 + Σ c_it x_it z_iᵀ, (lanes, R, n, T), only where asked for.
        thresholds: when a run counts as saturated and aligned.
    """

    problem: Problem
    settings: dict[str, Any]
    steps: Int[np.ndarray, " R"]
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

    def __repr__(self):
        ends = ", ".join(f"{name} {p.count}" for name, p in self.fractions().items() if p.count)
        return f"Run({self.settings['rule']}, {self.lanes} lanes, {self.steps[-1]} steps: {ends})"

    @property
    def label(self) -> str:
        """A short name for tables and figures: the rule and its step size."""
        return short_rule(self.settings["rule"])

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
    def nonfinite_step(self) -> Int[np.ndarray, " lanes"]:
        """The first recorded step at which a lane was not finite; -1 for sound lanes."""
        bad = ~((self.log10_grad_norm < np.inf) & np.isfinite(self.norm))  # a gradient of 0 is sound
        bad[:, -1] |= ~np.isfinite(self.final_logits).all((1, 2))
        return np.where(bad.any(1), self.steps[bad.argmax(1)], -1)

    @property
    def saturated(self) -> Bool[np.ndarray, "lanes R"]:
        """Whether max_i (1 - φ_i) is at most its threshold, at every recorded step."""
        return self.log10_attention_gap <= np.log10(self.thresholds.saturation)

    @property
    def settled_step(self) -> Int[np.ndarray, " lanes"]:
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
            saturated=self.saturated[:, -1],
            optimal=same(self.selection, self._scores.argmax(-1)),
            locally_optimal=self._locally_optimal,
        )

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
        decided = np.isin(self.verdict, ("global", "local"))
        return fit_rate(self.steps, self.direction_error[decided], law, window)

    @property
    def frame(self) -> Frame:
        """The reduced coordinates that the run used."""
        return frame_of(self.problem, self.settings["coordinates"])

    @property
    def final_coeffs(self) -> Float[np.ndarray, "lanes n T"]:
        """Coefficients c of W = W_0 + Σ_it c_it x_it z_iᵀ at the end: as recorded if kept, else of least norm."""
        if self.coeffs is not None:
            return self.coeffs[:, -1]
        n, T, _ = self.problem.shape
        return least_norm_coefficients(self.frame, self.position - self.start, n, T)

    def W(self, lane: int) -> Float[np.ndarray, "d e"]:
        """The final W of a lane, lifted to its full size.

        The part of W_0 outside the span never moves. Of random starts only its norm is drawn during the run; here a
        matrix with that norm is drawn for the lane, always the same, and so for starts in reduced coordinates
        (`Reduced`). Of other given starts it is the given part.
        """
        if not 0 <= lane < self.lanes:
            raise ValueError(f"lane: expected 0 to {self.lanes - 1}; got {lane}")
        if "K" in self.more:
            return self.more["K"][lane] @ self.more["Q"][lane].T
        frame = self.frame
        inside = frame.lift(self.position[lane])
        if self.outside[lane] == 0:
            return inside
        given, own = self.settings.get("given"), self.first + lane
        if given is not None:
            weights = self.settings.get("given_weights")
            outside = given[own if len(given) > 1 else 0] if weights is None else np.tensordot(weights[own], given, 1)
            return inside + outside
        other = np.random.default_rng([*self.settings["key"], self.first + lane]).standard_normal(self.problem.weights)
        other -= frame.lift(frame.project(other[None])[0][0])
        return inside + other * np.sqrt(self.outside[lane] / np.sum(other**2))

    def summary(self) -> dict[str, Any]:
        """The figures of the printed table, as plain numbers; None where there is none. Computed once."""
        return self._summary

    @functools.cached_property
    def _summary(self) -> dict[str, Any]:
        verdicts = {name: dataclasses.asdict(p) for name, p in self.fractions().items()}
        law: RateLaw = "inverse-log" if self.settings["rule_name"] == "gd" else "power"
        error = {name: self.direction_error[self.verdict == name, -1] for name in ("global", "local")}
        bad = np.flatnonzero(~self.finite)
        return {
            "rule": self.settings["rule"],
            "rule_name": self.settings["rule_name"],
            "lanes": self.lanes,
            "steps": int(self.steps[-1]),
            "verdicts": verdicts,
            "verdicts_by_direction": {
                name: dataclasses.asdict(p) for name, p in fractions(self.verdict_by_direction).items()
            },
            "median_direction_error": {name: _median(values) for name, values in error.items()},
            "median_log10_attention_gap": _median(self.log10_attention_gap[self.finite, -1]),
            "median_log10_grad_norm": _median(self.log10_grad_norm[self.finite, -1]),
            "median_norm": _median(self.norm[self.finite, -1]),
            "median_more": {name: _median(values[self.finite, -1]) for name, values in self.more_curves.items()},
            "rate": {name: _known(value) for name, value in dataclasses.asdict(self.rate(law)).items()},
            "distinct_selections": len(self.selections),
            "report": {name: float(np.nansum(values)) for name, values in self.report.items()},
            "converged": int(self.converged.sum()),
            "nonfinite": [{"lane": int(i), "first_recorded_step": int(self.nonfinite_step[i])} for i in bad[:20]],
            "seconds": self.settings.get("seconds"),
        }

    @property
    def more_curves(self) -> dict[str, Float[np.ndarray, "lanes R"]]:
        """What training more than W adds at every recorded step."""
        return {name: self.more[name] for name in MORE_CURVES if name in self.more}

    def to_pandas(self) -> "pandas.DataFrame":
        """One row per lane: verdicts, selection, and the final values of everything recorded."""
        import pandas as pd

        columns: dict[str, Any] = {
            "lane": self.first + np.arange(self.lanes),
            "verdict": self.verdict,
            "verdict_by_direction": self.verdict_by_direction,
            "selection_number": self.selection_number,
            "limit_norm": self.limit_norm[self.selection_number],
        }
        for name in CURVES:
            columns[name] = getattr(self, name)[:, -1]
        columns |= {name: values[:, -1] for name, values in self.more_curves.items()}
        columns["start_norm"] = np.sqrt((self.start**2).sum(1) + self.outside)
        columns["nonfinite_step"] = self.nonfinite_step
        columns["converged"] = self.converged
        return pd.DataFrame(columns | self.report)

    def plot(self, ax: "matplotlib.axes.Axes | None" = None) -> "matplotlib.axes.Axes":
        """Direction error against steps: median and quantile bands over the lanes that ended global or local."""
        from jaxsim import plot

        return plot.direction_error(self, ax=ax)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one .npz file; `Run.load` reads it back equal."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
        arrays |= {f"report.{name}": value for name, value in self.report.items()}
        arrays |= {f"more.{name}": value for name, value in self.more.items()}
        settings = dict(self.settings)
        arrays |= {name: settings.pop(name) for name in STARTS if name in settings}
        meta = {"settings": settings, "thresholds": dataclasses.asdict(self.thresholds)}
        _archive.write(path, "run", self.problem, arrays, meta)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Run":
        """Read a run that `save` wrote. The file is data: nothing in it is executed.

        Raises:
            ValueError: where the file cannot be read, is not a run, or comes from a newer format.
        """
        problem, arrays, meta = _archive.read(path, "run")
        parts: dict[str, Any] = {"report": {}, "more": {}}
        for name in [k for k in arrays if k.startswith(("report.", "more."))]:
            group, _, rest = name.partition(".")
            parts[group][rest] = arrays.pop(name)
        settings: Any = meta.get("settings")
        held: Any = meta.get("thresholds")
        if isinstance(settings, dict):
            settings |= {name: arrays.pop(name) for name in STARTS if name in arrays}
        if "norm" in arrays:  # a run from before there was the flag
            arrays.setdefault("converged", np.zeros(len(arrays["norm"]), bool))
        fields: dict[str, Any] = arrays | parts | {"problem": problem, "settings": settings}
        _archive.check_fields(path, cls, fields)
        check_run(path, fields)
        try:
            return cls(**fields, thresholds=Thresholds(**held))
        except (TypeError, ValueError) as error:
            raise ValueError(f"path: expected a whole run at {os.fspath(path)!r}; thresholds: {error}") from error


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _median(values: np.ndarray) -> float | None:
    sound = values[np.isfinite(values)]
    return float(np.median(sound)) if len(sound) else None
