"""Where shards are computed: an interface, and the engine of this process. `dask` holds the other."""

import dataclasses
import queue
import threading
import time
from collections.abc import Mapping
from typing import Protocol

from jaxsim.study.shards import Shard, Workshop
from jaxsim.study.spec import Study

AHEAD = 2  # shards handed to the worker thread, so that it never waits for the disk


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
            began = time.perf_counter()
            try:
                result, message = self._workshop.shard(task.cell, task.shard), None
            except Exception as error:  # one bad cell must not stop the others; the message goes to the manifest
                result, message = None, described(error)
            self._done.put(Outcome(task, result, message, time.perf_counter() - began))


def described(error: BaseException) -> str:
    """An error in a line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
