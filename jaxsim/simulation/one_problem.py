"""`simulate`: from a problem, a rule and an initialisation law to a verdict on every lane."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxsim import _machine, driver
from jaxsim._check import whole_number
from jaxsim.analysis import Limits, Thresholds
from jaxsim.init import Fixed, Law
from jaxsim.model import Loss, frame_of, named
from jaxsim.problem import Problem
from jaxsim.results import Run
from jaxsim.rules import Rule
from jaxsim.simulation.options import check, check_kept, check_range, check_types, kept_records, run_dtype
from jaxsim.simulation.work import Work
from jaxsim.train import WEIGHTS, Train

CHUNK_BYTES = 2**28


def simulate(
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
    keep: Iterable[Literal["logits", "coeffs"]] = (),
    thresholds: Thresholds | None = None,
    limits: Literal["all", "saturated", "none"] = "all",
    chunk_bytes: int = CHUNK_BYTES,
    chunk_lanes: int | None = None,
    first: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Train one attention head from many initialisations at once and say where each run went.

    Args:
        problem: the data.
        rule: a step-size rule, such as jaxsim.rules.NGD(0.1).
        init: the law of W_0, such as jaxsim.init.Gaussian(1.0).
        key: the JAX key; lane i draws from fold_in(key, i).
        lanes: number of runs.
        steps: number of updates S.
        train: what is trained: W alone, or `jaxsim.train.Joint()` for W and the decoder.
        record: the recorded steps; by default 0 and about ten per decade. The horizon is always recorded.
        loss: ℓ: "logistic", "exponential", "linear", or a `jaxsim.losses.Smooth`.
        dtype: float32 or float64; by default float64 where JAX has it switched on, else float32. Float32 is
            accumulated with compensation and right at any depth.
        coordinates: "dual", "primal" or "full"; by default the cheapest that the rule allows. All give the same
            trajectories of rules that allow them all.
        keep: "logits" and "coeffs" to keep them at every recorded step (lanes · R · n · T numbers each).
        thresholds: when a run counts as saturated and aligned.
        limits: hold every lane against the att-SVM of its selection, or only saturated ones. With thousands of
            constraints an att-SVM takes seconds, and lanes that have not settled have as many selections as lanes.
            The direction errors of the others are NaN, and an infeasible selection shows only when it saturates.
            With "none" no att-SVM is solved: every direction error is NaN, and a saturated lane that is not global
            counts as local without any test of its support tokens or its feasibility.
        chunk_bytes: aim for the memory of the records of one chunk of lanes, in bytes; a chunk has at least one
            block of lanes per device.
        chunk_lanes: likewise for the lanes of one chunk. Results are the same for any chunk size.
        first: index of the first lane: lanes first … first + lanes - 1 of a longer run, from the same draws.
        progress: called as progress(lanes done, lanes) after each chunk.

    Returns:
        A `Run`. A lane whose arithmetic fails has the verdict "nonfinite" and does not touch the others.

    Raises:
        ValueError: where an argument has the wrong type, shape or range; or float64 is asked for while JAX has it
            switched off.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> run = jaxsim.simulate(
        ...     problem, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(0.1), key=jax.random.key(1), lanes=8, steps=1000
        ... )
        >>> run.verdict.shape, run.direction_error.shape == (8, len(run.steps))
        ((8,), True)
    """
    began = time.perf_counter()
    work = prepare(
        problem, rule, init, key=key, lanes=lanes, steps=steps, record=record, loss=loss, dtype=dtype,
        coordinates=coordinates, keep=keep, thresholds=thresholds, limits=limits, chunk_bytes=chunk_bytes,
        chunk_lanes=chunk_lanes, train=train, first=first,
    )  # fmt: skip
    check_kept(problem, work.lanes, len(work.recorded), work.kept)
    parts = list(work.parts(progress))
    columns = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    settings = work.settings() | {"seconds": time.perf_counter() - began}
    return assemble(work.limits, settings, work.recorded, columns, work.thresholds)


def prepare(
    problem: Problem,
    rule: Rule,
    init: Law | Fixed,
    *,
    key: jax.Array,
    lanes: int,
    steps: int,
    record: Sequence[int] | None,
    loss: str | Loss,
    dtype: Any,
    thresholds: Thresholds | None,
    limits: str,
    coordinates: Literal["dual", "primal", "full"] | None = None,
    keep: Iterable[str] = (),
    chunk_bytes: int = CHUNK_BYTES,
    chunk_lanes: int | None = None,
    train: Train = WEIGHTS,
    first: int = 0,
) -> Work:
    """Check the arguments of `simulate` and plan the work."""
    check_types(problem, rule, init, key)
    lanes, steps = check(problem, init, lanes, steps, loss, train, first)
    real = run_dtype(dtype)
    check_range(problem, named(loss), real)
    recorded = driver.record_steps(steps, record)
    if chunk_lanes is not None:
        whole_number("chunk_lanes", chunk_lanes)
    kept, frame = kept_records(keep), frame_of(problem, _coordinates(rule, train, coordinates), real)
    how = driver.plan(lanes, train.numbers(problem, frame), len(recorded), real.itemsize, chunk_bytes, chunk_lanes)
    numbers = how.width * (len(recorded) * frame.size + train.numbers(problem, frame))
    _machine.need(
        "problem" if record is None else "record", real.itemsize * numbers,
        f"{how.width:,} lanes at once with {frame.size:,} numbers at each of {len(recorded):,} recorded steps",
    )  # fmt: skip
    if limits not in ("all", "saturated", "none"):
        raise ValueError(f"limits: expected 'all', 'saturated' or 'none'; got {limits!r}")
    held = Thresholds() if thresholds is None else thresholds
    if not isinstance(held, Thresholds):
        raise ValueError(f"thresholds: expected a jaxsim.analysis.Thresholds; got {thresholds!r}")
    return Work(
        problem, rule, init, key, lanes, recorded, named(loss), real, frame, kept, how, held, limits, train, first
    )  # fmt: skip


def _coordinates(rule: Rule, train: Train, asked: Any) -> Any:
    """The coordinates that rule and training need, or those asked for; ValueError where they exclude each other."""
    needed = getattr(rule, "coordinates", None)
    if needed is not None and train.coordinates is not None:
        raise ValueError(
            f"rule: {rule!r} acts on the matrix W; expected train=jaxsim.train.Weights() or Joint(); got {train!r}"
        )
    needed = needed or train.coordinates
    allowed = {None: (None, asked), "primal": (None, "primal", "full"), "full": (None, "full")}[needed]
    if train.coordinates == "primal":
        allowed = (None, "primal")
    if asked not in allowed:
        name = repr(train) if train.coordinates else repr(rule)
        raise ValueError(f"coordinates: {name} runs in {needed} coordinates; got {asked!r}")
    return asked or needed


def assemble(limits: Limits, settings, recorded, columns, thresholds: Thresholds) -> Run:
    """A Run from the columns of its lanes and the limits that they met."""
    report = {name[7:]: columns.pop(name) for name in list(columns) if name.startswith("report.")}
    more = {name[5:]: columns.pop(name) for name in list(columns) if name.startswith("more.")}
    solutions = limits.solutions
    return Run(
        problem=limits.problem,
        settings=settings,
        steps=recorded,
        selections=np.stack([mm.selection for mm in solutions]),
        limit_norm=np.array([mm.norm for mm in solutions]),
        limit_status=np.array([mm.status for mm in solutions]),
        locally_optimal=np.array([mm.locally_optimal for mm in solutions]),
        support=np.stack([mm.support for mm in solutions]),
        report=report,
        more=more,
        thresholds=thresholds,
        **columns,
    )
