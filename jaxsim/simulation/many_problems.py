"""`simulate_many`: a few lanes on each of many problems of one shape, batched over the problems."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from jaxsim import _machine, driver
from jaxsim.coordinates import DualEntry, as_device
from jaxsim.init import Fixed, Law, draw_each
from jaxsim.margin import solve_each
from jaxsim.model import stacked
from jaxsim.problem import Problem
from jaxsim.results import Run
from jaxsim.results.lanes import Lanes
from jaxsim.rules import Rule, check_rule
from jaxsim.simulation.analysing import near, selected
from jaxsim.simulation.options import CHUNK_BYTES, OptionKeywords, Options, refuse
from jaxsim.simulation.work import Work, key_words, prepare
from jaxsim.train import WEIGHTS, Known, Train, Weights

BLOCK = 256  # lanes that share a block, of several problems
ALIGNED = 64  # a width that is no multiple of this leaves vectors part empty


def simulate_many(
    problems: Sequence[Problem],
    rule: Rule,
    init: Law | Fixed | Sequence[Law | Fixed],
    *,
    key: jax.Array,
    lanes: int,
    steps: int,
    train: Train = WEIGHTS,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[OptionKeywords],
) -> list[Run]:
    """`simulate` on many problems of one shape, with a few lanes each, in one program.

    Result p is that of simulate(problems[p], …, key=jax.random.fold_in(key, p), coordinates="dual"), up to rounding.

    Args:
        problems: problems with equal (n, T); tokens may be hidden by masks.
        rule: as for `simulate`.
        init: one law, or one law or `Given` per problem.
        key: the JAX key; problem p uses fold_in(key, p).
        lanes: runs per problem.
        steps: number of updates S.
        train: W alone on all sequences, which is the default; the rest needs `simulate`, problem by problem.
        progress: called as progress(problems done, problems).
        **options: record, loss, dtype, keep, thresholds, limits, as for `simulate`.

    Returns:
        One `Run` per problem, in order. Its `seconds` are its share of the whole time.

    Raises:
        ValueError: where an argument is not what `simulate` would take, there is no problem, or shapes differ.

    Example:
        >>> import jax, jaxsim
        >>> keys = jax.random.split(jax.random.key(0), 5)
        >>> problems = [jaxsim.data.unit_sphere(k, n=3, T=4, d=5) for k in keys]
        >>> runs = jaxsim.simulate_many(
        ...     problems, jaxsim.rules.NGD(0.1), jaxsim.init.Gaussian(0.1), key=jax.random.key(1), lanes=2, steps=100
        ... )
        >>> len(runs), runs[0].lanes
        (5, 2)
    """
    began = time.perf_counter()
    problems = list(problems)
    _check(problems, rule, train)
    laws = list(init) if isinstance(init, Sequence) else [init] * len(problems)
    if len(laws) != len(problems):
        raise ValueError(f"init: expected one law, or one per problem, {len(problems)}; got {len(laws)}")
    refuse("simulate_many", options, "coordinates", "chunk_bytes", "chunk_lanes")
    how = Options(steps, coordinates="dual", **options)  # type: ignore[misc]
    keys = jax.vmap(lambda p: jax.random.fold_in(key, p))(jnp.arange(len(problems), dtype=jnp.uint32))
    each = dataclasses.replace(how, engine="xla")  # one engine for all, and not one for each
    with _machine.few_threads(problems[0].visible.size):
        own = functools.partial(prepare, rule=rule, options=each, lanes=lanes, of=lanes * len(problems))
        with ThreadPoolExecutor(_machine.cores()) as threads:
            batch = list(threads.map(lambda problem, law, key: own(problem, init=law, key=key), problems, laws, keys))
        if any(work.frame.factored for work in batch):  # type: ignore[attr-defined]
            batch = [dataclasses.replace(work, frame=work.frame.with_factor()) for work in batch]  # type: ignore[attr-defined]
        chosen = dataclasses.replace(batch[0], options=how)
        chosen.choose_engine(several=True)
        batch = [dataclasses.replace(work, options=how, engine=chosen.engine) for work in batch]
        kind, words = batch[0].kind(), key_words(keys)
        found: list[Run] = []
        for work, rows in _rows(batch, keys):
            found.append(work.result(rows, kind | work.own(words[len(found)])))
            if progress is not None:
                progress(len(found), len(batch))
    seconds = (time.perf_counter() - began) / len(batch)
    return [dataclasses.replace(run, settings=run.settings | {"seconds": seconds}) for run in found]


def _rows(batch: list[Work], keys: jax.Array) -> Iterator[tuple[Work, Lanes]]:
    """The rows of each problem, from blocks that hold a group of problems side by side."""
    first = batch[0]
    places = _Places.of(batch)
    rule: Any = as_device(first.rule, first.options.dtype)
    chunks = driver.run(
        first.model, rule, _starts(batch, keys, places), first.options.recorded, places.plan, first.far, first.engine
    )
    for k, chunk in enumerate(chunks):
        members = list(places.lanes(k))
        _settle([(batch[p], at) for p, at in members], chunk)
        for p, at in members:
            yield batch[p], batch[p].held(chunk.start.known[p], chunk.results(at))


def _settle(members: list[tuple[Work, np.ndarray]], chunk: driver.Chunk) -> None:
    """Solve the att-SVMs of a chunk, those of all its problems together."""
    asked, gap = [], chunk.records.log_attention_gap[:, -1]
    for work, at in members:
        needed = near(work.options.held_below, np.asarray(gap[at], np.float64))
        asked.append(work.limits.enter(selected(work.problem.visible, chunk.final[at]), needed)[1])
    limits = [work.limits for work, _ in members]
    alphas = [
        np.array([own.solutions[k].selection for k in numbers], int).reshape(-1, len(own.problem.labels))
        for own, numbers in zip(limits, asked, strict=True)
    ]
    solved = solve_each([own.problem for own in limits], alphas)
    for own, numbers, solutions in zip(limits, asked, solved, strict=True):
        own.settle(numbers, solutions)


@dataclasses.dataclass(frozen=True)
class _Places:
    """Which lanes of which problem lie where.

    Attributes:
        problems, per_problem: how many, and lanes of each.
        part: lanes of one problem in one block.
        group: problems side by side in a block.
        passes: blocks that hold the lanes of one group.
        groups: groups in a chunk.
        plan: blocks and chunks.
    """

    problems: int
    per_problem: int
    part: int
    group: int
    passes: int
    groups: int
    plan: driver.Plan

    @staticmethod
    def of(batch: list[Work]) -> "_Places":
        """Blocks of whole vectors, and as many groups in a chunk as memory allows."""
        first, devices = batch[0], jax.local_device_count()
        lanes, options = first.lanes, first.options
        part = min(lanes, BLOCK)
        unit = ALIGNED // math.gcd(part, ALIGNED)  # so many problems fill whole vectors
        group = min(unit * max(1, BLOCK // (unit * part)), math.ceil(len(batch) / devices))
        passes = math.ceil(lanes / part)
        width, records = group * part, len(options.recorded)
        memory = driver.plan(10**9, first.frame.size, records, options.dtype.itemsize, CHUNK_BYTES, None)
        groups = max(1, memory.blocks * memory.width // (width * passes * devices))
        groups = min(groups * devices, math.ceil(len(batch) / group))
        blocks = math.ceil(groups * passes / devices) * devices
        how = driver.Plan(width, blocks, math.ceil(len(batch) / (groups * group)))
        return _Places(len(batch), lanes, part, group, passes, groups, how)

    def members(self, k: int) -> np.ndarray:
        """Problems of chunk k by block; what runs past the end repeats the last problem and is dropped."""
        in_chunk = self.groups * self.group
        index = np.minimum(np.arange(k * in_chunk, (k + 1) * in_chunk), self.problems - 1)
        index = np.repeat(index.reshape(self.groups, self.group), self.passes, axis=0)
        return np.concatenate([index, np.repeat(index[-1:], self.plan.blocks - len(index), axis=0)])

    def lanes(self, k: int) -> Iterator[tuple[int, np.ndarray]]:
        """Every problem of chunk k, and where its lanes lie in the chunk."""
        for j, p in enumerate(np.unique(self.members(k))):
            g, slot = divmod(j, self.group)
            block = (g * self.passes + np.arange(self.passes))[:, None] * self.plan.width
            yield p, (block + slot * self.part + np.arange(self.part)).ravel()[: self.per_problem]


def _starts(batch: list[Work], keys: jax.Array, places: _Places) -> Iterator[driver.Start]:
    """Starts of each chunk with the models of its blocks; `known` has each problem's own under its number."""
    first, part, passes = batch[0], places.part, places.passes
    for k in range(places.plan.chunks):
        members = places.members(k)
        chosen = np.unique(members)
        pairs = [[(batch[p].problem, batch[p].frame) for p in row] for row in members]
        model = stacked(pairs, first.options.loss, first.options.dtype, part)
        drawn = _draw([batch[p] for p in chosen], keys[chosen])
        vectors = np.stack([start.vectors for start in drawn])  # problems, lanes, p
        short = passes * part - places.per_problem
        padded = np.concatenate([vectors, np.repeat(vectors[:, -1:], short, axis=1)], axis=1)
        turn = np.arange(places.plan.blocks) % passes
        rows = padded.reshape(len(chosen), passes, part, -1)[members - chosen[0], turn[:, None]]
        known = {p: start.known for p, start in zip(chosen, drawn, strict=True)}
        yield driver.Start(rows, known, model)


def _draw(batch: list[Work], keys: jax.Array) -> list[driver.Start]:
    """The starts of every problem: drawn together where the law is shared."""
    first = batch[0]
    if isinstance(first.init, Fixed) or any(work.init is not first.init for work in batch):
        return [_draw_alone(work) for work in batch]
    dtype, size = first.options.dtype, first.frame.size
    pairs = [work.frame.projection(dtype) for work in batch]  # type: ignore[attr-defined]
    entries = DualEntry(*(jnp.asarray(np.stack(leaves)) for leaves in zip(*pairs, strict=True)))
    rests = jnp.asarray([work.frame.ambient - work.frame.rank for work in batch], dtype)
    law = as_device(first.init, dtype)
    drawn = draw_each(law, keys, entries, rests, first.lanes, size, dtype)
    xi, vectors, outside = (np.asarray(value) for value in drawn)
    each = zip(vectors, xi.astype(np.float64), outside.astype(np.float64), strict=True)
    return [driver.Start(start, Known(own, rest)) for start, own, rest in each]


def _draw_alone(work: Work) -> driver.Start:
    (start,) = work.starts(driver.Plan(work.lanes, 1, 1))
    return driver.Start(np.asarray(start.vectors).reshape(work.lanes, -1), start.known)


def _check(problems: list[Any], rule: Any, train: Any) -> None:
    check_rule(rule)
    if rule.coordinates is not None:
        raise ValueError(f"rule: expected one that runs in dual coordinates; got {rule!r}. Use simulate")
    if not isinstance(train, Weights) or train.batch is not None:
        raise ValueError(
            f"train: simulate_many trains W alone, on all sequences; got {train!r}. Use simulate for each problem"
        )
    if not problems:
        raise ValueError("problems: expected at least one problem; got none")
    for p, problem in enumerate(problems):
        if not isinstance(problem, Problem):
            raise ValueError(f"problems: expected jaxsim.Problem objects; problem {p} is a {type(problem).__name__}")
        if problem.shape[:2] != problems[0].shape[:2]:
            wanted = problems[0].shape[:2]
            raise ValueError(f"problems: expected (n, T) = {wanted} in all; problem {p} has {problem.shape[:2]}")
