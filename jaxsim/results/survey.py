"""What a survey counted: lanes by selection and verdict, hitting times, quantiles of curves."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from jaxsim.analysis import VERDICTS, Proportion, Sketch, wilson
from jaxsim.problem import Problem
from jaxsim.results.labelled import of_survey
from jaxsim.results.saved import Saved, said, shares

if TYPE_CHECKING:
    import xarray

SURVEY_CURVES = ("log10_direction_error", "log10_attention_gap", "log10_grad_norm", "log10_gap", "log10_norm")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Survey(Saved):
    """What `survey` returns. U distinct selections, R recorded steps.

    Attributes:
        problem: the data.
        settings: how the lanes were made, as in `Run`.
        steps: recorded steps, (R,).
        selections: the distinct final selections, (U, n), with `limit_norm`, `limit_status`, `locally_optimal`
            (under the decoder of the problem; verdicts of joint runs are under each lane's own).
        counts: lanes by selection and verdict, (U, 6), verdicts in the order of `jaxsim.analysis.VERDICTS`.
        hitting: lanes by verdict and by the first recorded step at which they were saturated, (6, R + 1); the last
            column counts lanes that never were.
        sketches: the curves' distributions over lanes.
        report: sums over lanes of the rule's diagnostics.
    """

    kind: ClassVar[str] = "survey"

    problem: Problem
    settings: dict[str, Any]
    steps: Real[np.ndarray, " R"]
    selections: Int[np.ndarray, "U n"]
    limit_norm: Float[np.ndarray, " U"]
    limit_status: np.ndarray
    locally_optimal: Bool[np.ndarray, " U"]
    counts: Int[np.ndarray, "U 6"]
    hitting: Int[np.ndarray, "6 R1"]
    sketches: dict[str, Sketch]
    report: dict[str, float]

    @property
    def lanes(self) -> int:
        """Number of runs."""
        return int(self.counts.sum())

    @property
    def label(self) -> str:
        """A short name for tables and figures: the rule and its step size."""
        return self.settings["label"]

    def fractions(self, level: float = 0.95) -> dict[str, Proportion]:
        """The proportion of lanes with each verdict, with Wilson intervals; denominators are all lanes."""
        totals = self.counts.sum(0)
        return {name: wilson(int(totals[k]), self.lanes, level) for k, name in enumerate(VERDICTS)}

    def quantile(self, curve: str, q: float) -> Float[np.ndarray, " R"]:
        """The q-quantile over lanes of a curve at every recorded step, within 0.5% or 1e-5 (`Sketch`).

        Raises:
            ValueError: for an unknown curve, or q outside 0 to 1.
        """
        if curve not in self.sketches:
            raise ValueError(f"curve: expected one of {', '.join(self.sketches)}; got {curve!r}")
        if not 0 <= q <= 1:
            raise ValueError(f"q: expected a number from 0 to 1; got {q}")
        return self.sketches[curve].quantile(q)

    def to_xarray(self) -> "xarray.Dataset":
        """Counts by selection and verdict, fractions, and quantiles of every curve, (quantile, step), with names."""
        return of_survey(self)

    def _said(self):
        return said(self, "Survey")

    def _rows(self):
        return shares(self.fractions())

    def _fields(self):
        tables = {name: np.column_stack([one.counts, one.missing]) for name, one in self.sketches.items()}
        return super()._fields() | {"sketches": tables}

    @classmethod
    def _mend(cls, path, fields):
        for name, table in dict(fields.get("sketches", {})).items():
            fields["sketches"][name] = Sketch.of(table)
        fields.setdefault("report", {})
