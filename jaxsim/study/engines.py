"""Where shards are computed: an interface, and the engine of this process. `dask` holds the other."""

import dataclasses
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from jaxsim.study.shards import Shard, Workshop
from jaxsim.study.spec import Study

AHEAD = 24  # shards handed to the worker thread: it never waits for the disk, and takes together what may go together


@dataclasses.dataclass(frozen=True)
class Task:
    """One shard to make."""

    cell: int
    shard: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a task: a shard, or why there is none."""

    task: Task
    result: Shard | None
    message: str | None = None
    seconds: float = 0.0
    attempts: int = 1


class Lost(RuntimeError):
    """The engine cannot go on: what computes for it is out of reach."""


class Engine(Protocol):
    """Takes tasks while there is room and gives outcomes in any order. Every call may raise `Lost`."""

    def room(self) -> int:
        """How many more tasks it can use now."""
        ...

    def trouble(self) -> str | None:
        """What keeps it from working at all, in words; None where nothing does."""
        ...

    def submit(self, task: Task) -> None:
        """Take a task."""
        ...

    def outcomes(self, wait: float) -> list[Outcome]:
        """What has been done since the last call; waits up to so many seconds for the first."""
        ...

    def close(self) -> None:
        """Let go of everything; shards in flight are abandoned."""
        ...


class Here:
    """The engine of this process: one thread computes over all local devices while the caller writes."""

    def __init__(self, study: Study, files: Mapping[str, bytes]):
        self._workshop = Workshop(study, files)
        self._todo: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._in_flight = 0
        self._closed = False
        self._failed: dict[int, str] = {}  # cells whose further shards need not be tried
        # Not a daemon: an interpreter must not end while XLA computes. Who cannot wait leaves by os._exit.
        threading.Thread(target=self._work, name="jaxsim-study").start()

    def room(self) -> int:
        """See Engine."""
        return AHEAD - self._in_flight

    def trouble(self) -> None:
        """See Engine."""

    def submit(self, task: Task) -> None:
        """See Engine."""
        self._in_flight += 1
        self._todo.put(task)

    def outcomes(self, wait: float) -> list[Outcome]:
        """See Engine."""
        found = []
        try:
            found.append(self._done.get(timeout=wait))
            while True:
                found.append(self._done.get_nowait())
        except queue.Empty:
            self._in_flight -= len(found)
            return found

    def close(self) -> None:
        """See Engine."""
        self._closed = True
        self._todo.put(None)

    def _work(self) -> None:
        while (task := self._todo.get()) is not None and not self._closed:
            for group in self._groups([task, *self._waiting()]):
                made = self._made(group)
                for alone in group[made:]:  # one bad cell must not stop the others
                    made += self._made([alone], last=True)

    def _waiting(self) -> Iterator[Task]:
        """What else is to be done by now; the end of all is put back."""
        try:
            while (task := self._todo.get_nowait()) is not None:
                yield task
            self._todo.put(None)
        except queue.Empty:
            return

    def _groups(self, tasks: Sequence[Task]) -> list[list[Task]]:
        """Tasks by what may go together, in order of the first of each."""
        groups: dict[Any, list[Task]] = {}
        for task in tasks:
            try:
                kind = self._workshop.kind(task.cell)
            except Exception:  # it fails alone, with its message
                kind = task
            groups.setdefault(kind, []).append(task)
        return list(groups.values())

    def _made(self, tasks: Sequence[Task], last: bool = False) -> int:
        """Make shards side by side, up to the first that fails, which is told where it is the `last` try; how many."""
        began, made = time.perf_counter(), 0
        if self._closed:
            return len(tasks)
        if last and tasks[0].cell in self._failed:
            self._done.put(Outcome(tasks[0], None, self._failed[tasks[0].cell]))
            return 1
        try:
            for task, result in zip(tasks, self._workshop.shards([(t.cell, t.shard) for t in tasks]), strict=True):
                if self._closed:
                    return len(tasks)
                now = time.perf_counter()
                self._done.put(Outcome(task, result, None, now - began))
                began, made = now, made + 1
        except Exception as error:
            if last:  # the message goes to the manifest
                self._failed[tasks[0].cell] = described(error)
                self._done.put(Outcome(tasks[0], None, described(error), time.perf_counter() - began))
        return made


def described(error: BaseException) -> str:
    """An error in a line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
