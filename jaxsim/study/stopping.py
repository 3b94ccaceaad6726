"""When a cell is done. Decisions are functions of the counts of whole rounds of shards, never of their timing."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxsim.analysis import BOUNDS, VERDICTS, anytime_bounds
from jaxsim.study.spec import Study

GROWTH = 2  # a round at most doubles a cell

Counts = Mapping[int, tuple[int, ...]]  # of the shards of a cell that are done


def widths(count: Int[np.ndarray, " k"], total: Int[np.ndarray, " k"], level: float) -> Float[np.ndarray, " k"]:
    """Half the widths of anytime-valid intervals."""
    low, high = anytime_bounds(count, total, level)
    return (high - low) / 2


@functools.lru_cache(maxsize=2**16)
def half_width(count: int, total: int, level: float) -> float:
    """Half the width of one anytime-valid interval."""
    return float(widths(np.array([count]), np.array([total]), level)[0])


def watched(study: Study, counts: Sequence[int]) -> int:
    """Lanes with the verdict that the stopping rule watches."""
    return int(counts[VERDICTS.index(study.stop.verdict)])


def interval(study: Study, counts: Sequence[int]) -> tuple[float, float]:
    """The interval of the watched fraction that the stopping rule allows."""
    low, high = BOUNDS[study.stop.interval](watched(study, counts), sum(counts), study.stop.level)
    return float(low), float(high)


def targets(study: Study, done: Sequence[Counts]) -> Int[np.ndarray, " cells"]:
    """How many shards each cell needs next, given the counts of its shards that are done; no more when it is done.

    Under a fixed budget all of them. Otherwise rounds: the first has one shard, and each further one has as many as
    the width of the interval at the end of the last asks for, its lanes growing like the inverse square of the width,
    but at most twice as many. A round is judged when all its shards are there, so an interrupted study, one spread
    over many workers and one that ran through make the same shards.
    """
    wanted = np.full(len(done), study.first_shards)
    if study.stop.half_width is None:
        return wanted
    most, level, aim = study.most_shards, study.stop.level, study.stop.half_width
    sums = [np.cumsum([watched(study, shards[k]) for k in _prefix(shards)]) for shards in done]
    open_ = np.flatnonzero([len(total) > 0 for total in sums])
    while True:
        open_ = open_[[len(sums[c]) >= wanted[c] and wanted[c] < most for c in open_]] if len(open_) else open_
        if len(open_) == 0:
            return wanted
        rounds = wanted[open_]
        count = np.array([sums[c][r - 1] for c, r in zip(open_, rounds, strict=True)])
        width = widths(count, rounds * study.shard, level)
        open_, rounds, width = open_[width > aim], rounds[width > aim], width[width > aim]
        asked = np.ceil(rounds * (width / aim) ** 2).astype(int)
        wanted[open_] = np.minimum(np.minimum(np.maximum(asked, rounds + 1), GROWTH * rounds), most)


def _prefix(shards: Counts) -> range:
    """Shards 0, 1, … as far as they are there without a gap."""
    end = 0
    while end in shards:
        end += 1
    return range(end)


def remaining(study: Study, counts: Int[np.ndarray, " 6"]) -> float:
    """A forecast of the lanes that a cell whose rounds go on still needs."""
    lanes = int(counts.sum())
    if lanes == 0:
        return study.shard
    width = half_width(watched(study, counts.tolist()), lanes, study.stop.level)
    ratio = (width / (study.stop.half_width or 1.0)) ** 2
    return max(0.0, min(lanes * ratio, study.most_shards * study.shard) - lanes)
