"""`sweep`: many values of the numbers of a rule and a law, on the same problem and from the same draws."""

import itertools
import time
from collections.abc import Callable
from typing import Any, Unpack

import jax

from jaxsim._numbers import axes, points
from jaxsim.init import Fixed, Law
from jaxsim.problem import Problem
from jaxsim.results import Sweep
from jaxsim.rules import Rule
from jaxsim.simulation.checks import check_kept
from jaxsim.simulation.options import OptionKeywords, Options
from jaxsim.simulation.together import together
from jaxsim.simulation.work import prepare
from jaxsim.train import WEIGHTS, Train


def sweep(
    problem: Problem,
    rule: Rule,
    init: Law | Fixed,
    *,
    key: jax.Array,
    lanes: int,
    steps: int,
    train: Train = WEIGHTS,
    first: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[OptionKeywords],
) -> Sweep:
    """`simulate` for every combination of several values of the numbers of a rule and a law, in one program.

    Where a parameter has a list in the place of a number, as in NGD(np.geomspace(0.01, 1, 9)) or Sphere([1, 10, 100]),
    it is an axis. Every point of the grid has the same lanes: lane i draws from fold_in(key, i) at each, so that points
    differ by their numbers alone. Lanes of all points lie side by side, and each has its own numbers.

    Args:
        problem: the data.
        rule: a step-size rule, any of whose numbers may be a list.
        init: the law of W_0, likewise, or given starts.
        key: the JAX key.
        lanes: runs at every point.
        steps: number of updates S.
        train: what is trained, as for `simulate`.
        first: index of the first lane.
        progress: called as progress(points done, points).
        **options: record, loss, dtype, coordinates, keep, thresholds, limits, chunk_bytes, chunk_lanes, stepping and
            engine, as for `simulate`.

    Returns:
        A `Sweep`: a `Run` at every point, which is what `simulate` gives there, up to rounding. Its `seconds` are its
        share of the whole time.

    Raises:
        ValueError: where an argument is not what `simulate` would take, or no number is a list.

    Example:
        >>> import jax, jaxsim
        >>> problem = jaxsim.data.unit_sphere(jax.random.key(0), n=3, T=4, d=5)
        >>> swept = jaxsim.sweep(
        ...     problem, jaxsim.rules.NGD([0.1, 0.3]), jaxsim.init.Sphere([1, 3, 10]),
        ...     key=jax.random.key(1), lanes=8, steps=99,
        ... )
        >>> swept.shape, swept.at(eta=0.3, radius=10).label
        ((2, 3), 'NGD 0.3')
    """
    began = time.perf_counter()
    swept = {"rule": axes(rule), "init": axes(init)}
    if not any(swept.values()):
        raise ValueError(f"rule: expected a list in the place of a number, here or in init; got {rule!r} and {init!r}")
    rules, laws = points(rule), points(init)
    how = Options(steps, **options)  # type: ignore[misc]
    total = lanes * len(rules) * len(laws) if isinstance(lanes, int) else lanes
    work = prepare(problem, rules[0], laws[0], how, key=key, lanes=lanes, train=train, first=first, of=total)
    check_kept(work.problem, work.lanes, len(how.recorded), how.keep, runs=len(rules) * len(laws))
    works = [work.again(by, law, key, first) for by, law in itertools.product(rules, laws)]
    runs: list[Any] = []
    for run in together(works):
        runs.append(run)
        if progress is not None:
            progress(len(runs), len(works))
    return Sweep.of(swept, runs, (time.perf_counter() - began) / len(runs))
