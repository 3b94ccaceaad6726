"""What is left to do: which shards, in which order, and which of them are this process's."""

import heapq
from collections.abc import Callable

import numpy as np

from jaxsim.analysis import VERDICTS
from jaxsim.study import cells, stopping
from jaxsim.study.engines import Task
from jaxsim.study.spec import Study


class Todo:
    """Which shards are missing, in the order in which they are worth making."""

    def __init__(self, study: Study, mine: Callable[[int, int], bool]):
        self.study, self.mine = study, mine
        self.done: dict[int, dict[int, tuple[int, ...]]] = {}
        self.totals = np.zeros((cells.count(study), len(VERDICTS)), np.int64)
        self._asked: dict[int, int] = {}
        self._missing: dict[int, int] = {}  # shards of the round
        self._left: dict[int, float] = {}
        self._heap: list[tuple[float, int, int]] = []
        self.own = {c for c in range(len(self.totals)) if any(mine(c, k) for k in range(study.first_shards))}
        self.settled: set[int] = set()  # of the own cells
        self.given_up: set[int] = set()

    def know(self, cell: int, shard: int, counts: tuple[int, ...]) -> None:
        """A shard is done."""
        self.done.setdefault(cell, {})[shard] = counts
        self.totals[cell] += counts

    def look(self) -> None:
        """Put what every cell needs on the list."""
        all_done = [self.done.get(cell, {}) for cell in range(len(self.totals))]
        for cell, wanted in enumerate(stopping.targets(self.study, all_done).tolist()):
            self._list(cell, wanted)

    def _list(self, cell: int, wanted: int) -> None:
        """Put what a cell needs next on the list; the cell whose interval is widest comes first."""
        done, asked = self.done.get(cell, {}), self._asked.get(cell, 0)
        new = [k for k in range(asked, wanted) if k not in done and self.mine(cell, k)]
        width = 0.5
        if new and done and self.study.stop.half_width is not None:
            counts = self.totals[cell].tolist()
            width = stopping.half_width(stopping.watched(self.study, counts), sum(counts), self.study.stop.level)
        for k in new:
            heapq.heappush(self._heap, (-width, cell, k))
        self._asked[cell] = wanted
        self._missing[cell] = sum(k not in done and self.mine(cell, k) for k in range(wanted))
        if self._missing[cell] == 0 and cell in self.own:
            self.settled.add(cell)

    def again(self, task: Task) -> None:
        """Put a shard on the list that is to be made a second time."""
        heapq.heappush(self._heap, (-1.0, task.cell, task.shard))

    def waiting(self) -> bool:
        """Whether a shard is ready to be made."""
        while self._heap and self._heap[0][1] in self.given_up:
            heapq.heappop(self._heap)
        return bool(self._heap)

    def next(self) -> Task | None:
        """The next shard to make, None where nothing is ready."""
        return Task(*heapq.heappop(self._heap)[1:]) if self.waiting() else None

    def finish(self, task: Task, counts: tuple[int, ...]) -> None:
        """A shard has just been made."""
        if task.shard in self.done.get(task.cell, {}):
            return
        self.know(task.cell, task.shard, counts)
        self._missing[task.cell] -= 1
        if self._missing[task.cell] == 0:  # the round is complete
            self._list(task.cell, int(stopping.targets(self.study, [self.done[task.cell]])[0]))
        self._left[task.cell] = self._forecast(task.cell)

    def left(self) -> float:
        """A forecast of the lanes still to run."""
        if not self._left:
            self._left = {cell: self._forecast(cell) for cell in range(len(self.totals))}
        return sum(self._left.values())

    def _forecast(self, cell: int) -> float:
        missing = self._missing[cell] * self.study.shard
        if self.study.stop.half_width is None or missing == 0:
            return missing
        return max(missing, stopping.remaining(self.study, self.totals[cell]))


def share(study: Study, process: int, processes: int) -> Callable[[int, int], bool]:
    """Which shards are the business of one process of several, without asking the others.

    Under a fixed budget every process takes each so-many-th shard; where shards depend on earlier ones of their cell,
    each so-many-th cell.
    """
    if study.stop.half_width is None:
        return lambda cell, shard: (cell + shard) % processes == process
    return lambda cell, shard: cell % processes == process
