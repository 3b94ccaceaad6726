"""`survey`: any number of lanes in constant memory; counts and quantiles instead of lanes."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack

import jax
import numpy as np

from jaxsim.analysis import VERDICTS, Sketch
from jaxsim.analysis.verdict import codes
from jaxsim.init import Fixed, Law
from jaxsim.problem import Problem
from jaxsim.results import Run, Survey
from jaxsim.results.summary import BY_LANE, LARGEST, of_all
from jaxsim.results.survey import SURVEY_CURVES
from jaxsim.rules import Rule
from jaxsim.simulation.options import OptionKeywords, Options, refuse
from jaxsim.simulation.work import prepare
from jaxsim.train import WEIGHTS, Train

if TYPE_CHECKING:
    import pandas


def survey(
    problem: Problem,
    rule: Rule,
    init: Law | Fixed,
    *,
    key: jax.Array,
    lanes: int,
    steps: int,
    train: Train = WEIGHTS,
    each: "Callable[[pandas.DataFrame], None] | None" = None,
    first: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[OptionKeywords],
) -> Survey:
    """`simulate` for any number of lanes in memory that does not grow with them.

    Lanes are reduced chunk by chunk to counts by selection and verdict, hitting times and quantiles.

    Args:
        problem: the data.
        rule: a step-size rule.
        init: the law of W_0.
        key: the JAX key; lane i draws from fold_in(key, i), so lanes are those of `simulate`.
        lanes: number of runs.
        steps: number of updates S.
        train: what is trained. The curves that it adds to `Run.more` are in the quantiles too.
        each: called with the table of every chunk, one row per lane, as `Run.to_pandas` gives; to write it to disk
            use `jaxsim.storage.lane_table`.
        first: index of the first lane: lanes first … first + lanes - 1 of a longer run, from the same draws.
        progress: called as progress(lanes done, lanes) after each chunk.
        **options: record, loss, dtype, coordinates, thresholds, limits, chunk_bytes, as for `simulate`.

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
    refuse("survey", options, "keep")
    how = Options(steps, **options)
    work = prepare(problem, rule, init, how, key=key, lanes=lanes, train=train, first=first)
    tally = _Tally(how.recorded)
    run = None
    for part in work.parts(progress):
        run = work.result(part)
        table = tally.add(run)
        if each is not None:
            each(table)
    assert run is not None  # lanes is at least 1
    return Survey(
        problem=work.problem,
        settings=run.settings | {"seconds": time.perf_counter() - began},
        steps=how.recorded,
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
        self.sketches: dict[str, Sketch] = {name: Sketch(len(steps)) for name in SURVEY_CURVES}
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
            if name not in BY_LANE:
                known, more = self.report.get(name, 0.0), of_all(name, values)
                self.report[name] = max(known, more) if name in LARGEST else known + more
        return table
