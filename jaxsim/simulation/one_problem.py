"""`simulate`: from a problem, a rule and an initialisation law to a verdict on every lane."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import jax

from jaxsim._check import one_of
from jaxsim.analysis import Thresholds
from jaxsim.init import Fixed, Law
from jaxsim.model import Loss
from jaxsim.problem import Problem
from jaxsim.results import Run
from jaxsim.rules import Rule
from jaxsim.simulation.checks import check_kept
from jaxsim.simulation.options import CHUNK_BYTES, Options
from jaxsim.simulation.shadow import shadowed
from jaxsim.simulation.stepping import horizons
from jaxsim.simulation.work import Work, prepare
from jaxsim.train import WEIGHTS, Train


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
    loss: Literal["logistic", "exponential", "linear", "negative-log"] | Loss = "logistic",
    dtype: Any = None,
    coordinates: Literal["dual", "primal", "full"] | None = None,
    keep: Iterable[Literal["logits", "coeffs"]] = (),
    thresholds: Thresholds | None = None,
    limits: Literal["all", "saturated", "none"] = "all",
    chunk_bytes: int = CHUNK_BYTES,
    chunk_lanes: int | None = None,
    stepping: Literal["auto", "every", "leap"] = "auto",
    engine: Literal["auto", "xla", "native"] = "auto",
    until: Literal["resolved"] | None = None,
    shadow: bool = False,
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
        train: what is trained: W alone; or `jaxsim.train.Joint()` for W and the decoder, `KeyQuery(width)` for
            W = K Qᵀ, `Heads(heads)` for several heads.

    Other Args:
        record: the recorded steps; by default 0 and about ten per decade. The horizon is always recorded.
        loss: ℓ: "logistic", "exponential", "linear", "negative-log" or a `jaxsim.losses.Smooth`.
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
        stepping: "auto": every step is made up to step 2,000; from there lanes of rules whose steps shrink with the
            gradient leap, to any horizon. So do those of NGD with a constant step from step 20,000, where the horizon
            is beyond a million. Of other rules every step is made. "every": no leaps. "leap": as "auto", and an error
            where there could be none. What leaps cost and how far off they may be is in `Run.report`.
        engine: what makes the steps. "native": machine code, made by this machine's C++ compiler when first
            needed, where there is any: for W alone in dual coordinates, n T up to 256, on CPUs, under GD, NGD,
            Polyak, AdaGradNorm and momentum with constant steps, leaps too; the same up to rounding, and faster. "xla":
            programs of XLA. "auto": machine code where lanes · steps · (n T)² is above 2·10¹⁰ and there is a
            compiler. Which it was is in `Run.settings["engine"]`.
        until: "resolved" to stop at a shorter horizon where no lane is transient or unresolved: 2,000 is tried first,
            and then ever longer ones, up to `steps`. What is left open is in `Run.open`.
        shadow: whether to run beside every lane one that starts 1e-12 away (1e-5 in float32), at twice the cost: how
            far apart they end is in `Run.report`, as `amplification`, with `chaotic` where verdict or selection differ.
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
    options = Options(
        steps, record, loss, dtype, coordinates, keep, thresholds, limits, chunk_bytes, chunk_lanes, stepping, engine
    )
    work = prepare(problem, rule, init, options, key=key, lanes=lanes, train=train, first=first)
    check_kept(work.problem, work.lanes, len(options.recorded), options.keep)
    if until is None:
        run = work.run(progress)
    else:
        one_of("until", until, ("resolved",))
        work, run = _resolved(work, progress)
        run = dataclasses.replace(run, settings=run.settings | {"until": until})
    run = shadowed(work, run) if shadow else run
    return dataclasses.replace(run, settings=run.settings | {"seconds": time.perf_counter() - began})


def _resolved(work: Work, progress: Callable[[int, int], None] | None) -> tuple[Work, Run]:
    """The work and the run of the first horizon at which nothing is open, or of the last."""
    options = work.options
    *shorter, _ = horizons(options.steps, work.far)
    for horizon in shorter:
        record = None if options.record is None else [k for k in options.record if k <= horizon]
        found = work.until(dataclasses.replace(options, steps=horizon, record=record))
        run = found.run(progress)
        if not run.open.any():
            return found, run
    return work, work.run(progress)
