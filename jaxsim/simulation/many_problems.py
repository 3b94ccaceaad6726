"""`simulate_many`: a few lanes on each of many problems of one shape, batched over the problems."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxsim import driver
from jaxsim.analysis import Thresholds
from jaxsim.init import Fixed, Law, draw_each
from jaxsim.model import Loss, stacked
from jaxsim.model.spaces import DualEntry, as_device
from jaxsim.problem import Problem
from jaxsim.results import Run
from jaxsim.rules import Rule
from jaxsim.simulation.one_problem import CHUNK_BYTES, assemble, prepare
from jaxsim.simulation.work import Work, analyse
from jaxsim.train import WEIGHTS, Train, Weights

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
    record: Sequence[int] | None = None,
    loss: Literal["logistic", "exponential", "linear"] | Loss = "logistic",
    dtype: Any = None,
    keep: Iterable[Literal["logits", "coeffs"]] = (),
    thresholds: Thresholds | None = None,
    limits: Literal["all", "saturated"] = "all",
    progress: Callable[[int, int], None] | None = None,
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
        record: as for `simulate`.
        loss: as for `simulate`.
        dtype: as for `simulate`.
        keep: as for `simulate`.
        thresholds: as for `simulate`.
        limits: as for `simulate`.
        progress: called as progress(problems done, problems).

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
    kept: Any = (keep,) if isinstance(keep, str) else tuple(keep)
    if getattr(rule, "coordinates", None) is not None:
        raise ValueError(f"rule: expected one that runs in dual coordinates; got {rule!r}. Use simulate")
    if not isinstance(train, Weights) or train.batch is not None:
        raise ValueError(
            f"train: simulate_many trains W alone, on all sequences; got {train!r}. Use simulate for each problem"
        )
    laws = list(init) if isinstance(init, Sequence) else [init] * len(problems)
    _check(problems, laws)
    batch = [
        prepare(
            problem,
            rule,
            law,
            key=key,
            lanes=lanes,
            steps=steps,
            record=record,
            loss=loss,
            dtype=dtype,
            coordinates="dual",
            keep=kept,
            thresholds=thresholds,
            limits=limits,
        )  # fmt: skip
        for problem, law in zip(problems, laws, strict=True)
    ]
    if any(work.frame.factored for work in batch):  # type: ignore[attr-defined]
        batch = [dataclasses.replace(work, frame=work.frame.with_factor()) for work in batch]  # type: ignore[attr-defined]
    keys = jax.vmap(lambda p: jax.random.fold_in(key, p))(jnp.arange(len(batch), dtype=jnp.uint32))
    each: list[Any] = []
    for work, columns in _columns(batch, keys):
        each.append((work.limits, work.settings(), work.recorded, columns, work.thresholds))
        if progress is not None:
            progress(len(each), len(batch))
    seconds = (time.perf_counter() - began) / len(batch)
    data = np.asarray(jax.random.key_data(keys)).reshape(len(batch), -1).tolist()
    return [
        assemble(limits, settings | {"key": own, "seconds": seconds}, recorded, columns, limit)
        for own, (limits, settings, recorded, columns, limit) in zip(data, each, strict=True)
    ]


def _columns(batch: list[Work], keys: jax.Array) -> Iterator[tuple[Work, dict[str, np.ndarray]]]:
    """The columns of each problem, from blocks that hold a group of problems side by side."""
    first = batch[0]
    lanes, dtype = first.lanes, first.dtype
    part = min(lanes, BLOCK)  # lanes of one problem in one block
    unit = ALIGNED // math.gcd(part, ALIGNED)  # so many problems fill whole vectors
    group = min(unit * max(1, BLOCK // (unit * part)), math.ceil(len(batch) / jax.local_device_count()))
    passes = math.ceil(lanes / part)
    width, records = group * part, len(first.recorded)
    memory = driver.plan(10**9, first.frame.size, records, dtype.itemsize, CHUNK_BYTES, None)
    groups = max(1, memory.blocks * memory.width // (width * passes * jax.local_device_count()))
    groups = min(groups * jax.local_device_count(), math.ceil(len(batch) / group))
    blocks = math.ceil(groups * passes / jax.local_device_count()) * jax.local_device_count()
    how = driver.Plan(width, blocks, math.ceil(len(batch) / (groups * group)))
    held: list[list[tuple[Any, Any]]] = []

    def members(k: int) -> np.ndarray:
        """Problems of chunk k by block; what runs past the end repeats the last problem and is dropped."""
        index = np.minimum(np.arange(k * groups * group, (k + 1) * groups * group), len(batch) - 1)
        index = np.repeat(index.reshape(groups, group), passes, axis=0)
        return np.concatenate([index, np.repeat(index[-1:], blocks - len(index), axis=0)])

    def models() -> Iterator[Any]:
        for k in range(how.chunks):
            parts = [
                stacked([batch[p].problem for p in row], [batch[p].frame for p in row], first.loss, dtype, part)
                for row in members(k)
            ]
            yield jax.tree.map(lambda *leaves: np.stack(leaves), *parts)

    def starts() -> Iterator[Any]:
        for k in range(how.chunks):
            chosen = np.unique(members(k))
            drawn = _draw([batch[p] for p in chosen], keys[chosen])
            held.append([(xi, outside) for xi, _, outside in drawn])
            vectors = np.stack([start for _, start, _ in drawn])  # problems, lanes, p
            padded = np.concatenate([vectors, np.repeat(vectors[:, -1:], passes * part - lanes, axis=1)], axis=1)
            rows = members(k) - chosen[0]
            turn = np.arange(blocks) % passes
            yield padded.reshape(len(chosen), passes, part, -1)[rows, turn[:, None]]

    gaps = np.diff(first.recorded, prepend=0)
    rule: Any = as_device(first.rule, dtype)
    for k, (records_, final, report) in enumerate(
        driver.run_chunks(first.model(), rule, starts(), gaps, how, models())
    ):
        block_of = members(k)
        for j, p in enumerate(np.unique(block_of)):
            g, slot = divmod(j, group)
            at = ((g * passes + np.arange(passes))[:, None] * width + slot * part + np.arange(part)).ravel()[:lanes]
            xi0, outside = held[0][j]
            columns = analyse(
                batch[p].limits,
                first.train,
                first.held_below,
                {name: value[at] for name, value in records_.items()},
                final[at],
                {name: value[at] for name, value in report.items()},
                xi0,
                outside,
                first.kept,
            )
            yield batch[p], columns
        held.pop(0)


def _draw(batch: list[Work], keys: jax.Array) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """ξ_0, start vectors and ‖W_0 outside‖² of every problem: drawn together where the law is shared."""
    first = batch[0]
    if isinstance(first.init, Fixed) or any(work.init is not first.init for work in batch):
        return [_draw_alone(dataclasses.replace(work, key=key)) for work, key in zip(batch, keys, strict=True)]
    pairs = [work.frame.projection(work.dtype) for work in batch]  # type: ignore[attr-defined]
    entries = DualEntry(*(jnp.asarray(np.stack(leaves)) for leaves in zip(*pairs, strict=True)))
    rests = jnp.asarray([work.frame.ambient - work.frame.rank for work in batch], first.dtype)
    law = as_device(first.init, first.dtype)
    drawn = draw_each(law, keys, entries, rests, first.lanes, first.frame.size, first.dtype)
    xi, start, outside = (np.asarray(value) for value in drawn)
    return list(zip(xi.astype(np.float64), start, outside.astype(np.float64), strict=True))


def _draw_alone(work: Work) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    starts = work.starts()
    vectors = np.asarray(next(starts.over(driver.Plan(work.lanes, 1, 1))))
    xi, outside = starts.taken.pop()
    return xi, vectors.reshape(work.lanes, -1), outside


def _check(problems: list[Any], laws: list[Any]) -> None:
    if not problems:
        raise ValueError("problems: expected at least one problem; got none")
    for p, problem in enumerate(problems):
        if not isinstance(problem, Problem):
            raise ValueError(f"problems: expected jaxsim.Problem objects; problem {p} is a {type(problem).__name__}")
        if problem.shape[:2] != problems[0].shape[:2]:
            wanted = problems[0].shape[:2]
            raise ValueError(f"problems: expected (n, T) = {wanted} in all; problem {p} has {problem.shape[:2]}")
    if len(laws) != len(problems):
        raise ValueError(f"init: expected one law, or one per problem, {len(problems)}; got {len(laws)}")
