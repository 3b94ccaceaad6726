"""`survey`: any number of lanes in constant memory; counts and quantiles instead of lanes."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim.analysis import VERDICTS, Proportion, Sketch, Thresholds, wilson
from jaxsim.analysis.verdict import codes
from jaxsim.init import Fixed, Law
from jaxsim.model import Loss
from jaxsim.problem import Problem
from jaxsim.results import Run
from jaxsim.rules import Rule
from jaxsim.simulation.one_problem import CHUNK_BYTES, assemble, prepare
from jaxsim.train import WEIGHTS, Train

if TYPE_CHECKING:
    import pandas

CURVES = ("log10_direction_error", "log10_attention_gap", "log10_grad_norm", "log10_gap", "log10_norm")


@dataclasses.dataclass(frozen=True, eq=False)
class Survey:
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

    problem: Problem
    settings: dict[str, Any]
    steps: Int[np.ndarray, " R"]
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

    def __repr__(self):
        ends = ", ".join(f"{name} {p.count}" for name, p in self.fractions().items() if p.count)
        return f"Survey({self.settings['rule']}, {self.lanes} lanes, {self.steps[-1]} steps: {ends})"

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


def survey(
    problem: Problem,
    rule: Rule,
    init: Law | Fixed,
    *,
    key: jax.Array,
    lanes: int,
    steps: int,
    train: Train = WEIGHTS,
    record: Sequence[int] | None = None,
    loss: Literal["logistic", "exponential", "linear"] | Loss = "logistic",
    dtype: Any = None,
    coordinates: Literal["dual", "primal", "full"] | None = None,
    thresholds: Thresholds | None = None,
    limits: Literal["all", "saturated"] = "all",
    chunk_bytes: int = CHUNK_BYTES,
    each: "Callable[[pandas.DataFrame], None] | None" = None,
    first: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """`simulate` for any number of lanes in memory that does not grow with them.

    Lanes are reduced chunk by chunk to counts by selection and verdict, hitting times and quantiles.

    Args:
        problem: the data.
        rule: as for `simulate`, like every argument not listed.
        init: the law of W_0.
        key: the JAX key; lane i draws from fold_in(key, i), so lanes are those of `simulate`.
        lanes: number of runs.
        steps: number of updates S.
        train: what is trained. The curves that it adds to `Run.more` are in the quantiles too.
        record: the recorded steps.
        loss: ℓ.
        dtype: float32 or float64.
        coordinates: "dual", "primal" or "full".
        thresholds: when a run counts as saturated and aligned.
        limits: which lanes to hold against the att-SVM of their selection.
        chunk_bytes: aim for the memory of one chunk of lanes.
        each: called with the table of every chunk, one row per lane, as `Run.to_pandas` gives; to write it to disk
            use `jaxsim.storage.lane_table`.
        first: index of the first lane: lanes first … first + lanes - 1 of a longer run, from the same draws.
        progress: called as progress(lanes done, lanes) after each chunk.

    Returns:
        A `Survey`.

    Raises:
        ValueError: as `simulate`.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> found = jaxsim.survey(
        ...     problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(0.1), key=jax.random.key(1), lanes=100, steps=500
        ... )
        >>> found.lanes, found.quantile("log10_attention_gap", 0.5).shape == found.steps.shape
        (100, True)
    """
    began = time.perf_counter()
    work = prepare(
        problem, rule, init, key=key, lanes=lanes, steps=steps, record=record, loss=loss, dtype=dtype,
        coordinates=coordinates, thresholds=thresholds, limits=limits, chunk_bytes=chunk_bytes, train=train,
        first=first,
    )  # fmt: skip
    settings = work.settings()
    tally = _Tally(work.recorded)
    run = None
    for columns in work.parts(progress):
        run = assemble(work.limits, settings, work.recorded, columns, work.thresholds)
        table = tally.add(run)
        if each is not None:
            each(table)
    assert run is not None  # lanes is at least 1
    return Survey(
        problem=problem,
        settings=settings | {"seconds": time.perf_counter() - began},
        steps=work.recorded,
        selections=run.selections,
        limit_norm=run.limit_norm,
        limit_status=run.limit_status,
        locally_optimal=run.locally_optimal,
        counts=tally.counts,
        hitting=tally.hitting,
        sketches=tally.sketches,
        report=tally.report,
    )


class _Tally:
    """Sums over chunks."""

    def __init__(self, steps: np.ndarray):
        self.lanes, self.steps = 0, steps
        self.counts = np.zeros((0, len(VERDICTS)), np.int64)
        self.hitting = np.zeros((len(VERDICTS), len(steps) + 1), np.int64)
        self.sketches: dict[str, Sketch] = {name: Sketch(len(steps)) for name in CURVES}
        self.report: dict[str, float] = {}

    def add(self, run: Run) -> "pandas.DataFrame":
        """Count the lanes of a chunk, and give their table."""
        table = run.to_pandas()
        table["lane"] += self.lanes
        self.lanes += run.lanes
        verdict = codes(run.verdict)
        grown = np.zeros((len(run.selections), len(VERDICTS)), np.int64)
        grown[: len(self.counts)] = self.counts
        np.add.at(grown, (run.selection_number, verdict), 1)
        self.counts = grown
        first = np.where(run.saturated.any(1), run.saturated.argmax(1), len(self.steps))
        np.add.at(self.hitting, (verdict, first), 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.sketches["log10_direction_error"].add(np.log10(run.direction_error))
            self.sketches["log10_norm"].add(np.log10(run.norm))
        for name in ("log10_attention_gap", "log10_grad_norm", "log10_gap"):
            self.sketches[name].add(getattr(run, name))
        for name, values in run.more_curves.items():
            self.sketches.setdefault(name, Sketch(len(self.steps))).add(values)
        for name, values in run.report.items():
            self.report[name] = self.report.get(name, 0.0) + float(np.nansum(values))
        return table
