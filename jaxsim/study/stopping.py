"""When a cell is done. Decisions are functions of the counts of whole rounds of shards, never of their timing."""

from collections.abc import Mapping

import numpy as np

from jaxsim.analysis import VERDICTS, anytime_bounds
from jaxsim.study.spec import Study

GROWTH = 2  # a round at most doubles a cell


def half_width(study: Study, counts: np.ndarray) -> float:
    """Half the width of the anytime-valid interval of the watched fraction."""
    low, high = anytime_bounds(counts[VERDICTS.index(study.stop.verdict)], counts.sum(), study.stop.level)
    return float(high - low) / 2


def target(study: Study, done: Mapping[int, tuple[int, ...]]) -> int:
    """How many shards a cell needs next, given the counts of those that are done; no more than that when it is done.

    Under a fixed budget all of them. Otherwise rounds: the first has one shard, and each further one has as many as
    the width of the interval at the end of the last asks for, its lanes growing like the inverse square of the width,
    but at most twice as many. A round is judged when all its shards are there, so an interrupted study, one spread
    over many workers and one that ran through make the same shards.
    """
    wanted = study.first_shards
    if study.stop.half_width is None:
        return wanted
    while wanted < study.most_shards and all(k in done for k in range(wanted)):
        width = half_width(study, np.sum([done[k] for k in range(wanted)], axis=0))
        if width <= study.stop.half_width:
            break
        asked = int(np.ceil(wanted * (width / study.stop.half_width) ** 2))
        wanted = min(max(asked, wanted + 1), GROWTH * wanted, study.most_shards)
    return wanted


def remaining(study: Study, counts: np.ndarray) -> float:
    """A forecast of the lanes that a cell still needs."""
    lanes = counts.sum()
    if study.stop.half_width is None:
        return study.first_shards * study.shard - lanes
    if lanes == 0:
        return study.shard
    width = half_width(study, counts)
    if width <= study.stop.half_width:
        return 0.0
    return min(lanes * (width / study.stop.half_width) ** 2, study.most_shards * study.shard) - lanes
