"""Running a study: what is to do, who does it, and writing down what is done."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxsim.storage import environment
from jaxsim.study import cells, folder, manifest, opening, rows
from jaxsim.study.engines import Engine, Here, Outcome, Task
from jaxsim.study.pending import Todo, share
from jaxsim.study.spec import Study

POLL = 0.1  # seconds between looks at the engine
PATIENCE = 5.0  # seconds of trouble before it is told


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a running study stands."""

    cells_done: int
    cells: int
    lanes: int
    lanes_left: float
    new_shards: int
    new_lanes: int
    retries: int
    failed: int
    seconds: float
    last: int | None
    last_counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a call of `run` came to."""

    new_shards: int
    retries: int
    damaged: list[str]
    failed: dict[str, str]
    repaired: list[str]
    changed: list[str]  # repaired shards whose bytes are not those first recorded


def run(
    study: Study,
    out: str | os.PathLike,
    *,
    engine: Callable[[Study, Mapping[str, bytes]], Engine] = Here,
    repair: bool = False,
    process: int = 0,
    processes: int = 1,
    report: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda state: None,
) -> Finished:
    """Run a study, or what is missing of it.

    Args:
        study: from `jaxsim.study.load` or `jaxsim.study.build`.
        out: the study's folder; one that holds part of the same study is continued.
        engine: makes the engine, before anything is written; `jaxsim.study.engines.Here` or one from
            `jaxsim.study.dask`.
        repair: make damaged and missing shards again, and forget what is damaged otherwise.
        process: which of `processes` this is; each takes its own slice.
        processes: how many processes share the study.
        report: called with lines worth telling.
        progress: called with the state after each step.

    Returns:
        What was done, and what is damaged or failed.

    Raises:
        ValueError: where the folder holds another study, or something else, or a manifest that cannot be read.
        jaxsim.study.folder.Held: where another process works in the folder.
        jaxsim.study.folder.Gone: where the folder is moved or deleted meanwhile.
        jaxsim.study.engines.Lost: where what computes for the engine is out of reach.
        OSError: where the disk is full or cannot be written; what was complete stays.
    """
    place = Path(out)
    opening.known(place, study)
    if processes == 1 and (who := folder.holder(place)):
        raise folder.Held(f"{place} is in use by {who}")
    files = opening.problem_files(place, study)
    maker = engine(study, files)
    try:
        opening.make(place)
        with folder.held(place, process, processes) as hold:
            known = opening.known(place, study)
            book = opening.begin(place, study, files, process, processes)
            hold.watch(book.path)
            session = None
            try:
                session = book.begin(environment() | {"hash": study.hash})
                job = _Job(study, book, session, hold, share(study, process, processes), report, progress)
                left = job.load(known, repair)
                if repair:
                    opening.forget(place, book, processes)
                job.work(maker)
                left += job.vanished()
            finally:
                book.close(session)
    finally:
        maker.close()
    return Finished(job.new_shards, job.retries, left, job.failed, job.repaired, job.changed)


class _Job:
    """One call of `run` at work."""

    def __init__(self, study: Study, book: manifest.Manifest, session: int, hold: folder.Hold, mine, report, progress):
        self.study, self.book, self.session, self.hold = study, book, session, hold
        self.report, self.progress = report, progress
        self.todo = Todo(study, mine)
        self.began = time.perf_counter()
        self.new_shards = self.retries = 0
        self.trouble_began: float | None = None
        self.trouble_told = False
        self.failed: dict[str, str] = {}
        self.repairs: dict[tuple[int, int], manifest.Record] = {}
        self.made: list[manifest.Record] = []
        self.repaired: list[str] = []
        self.changed: list[str] = []

    def load(self, known: manifest.Contents, repair: bool) -> list[str]:
        """What is done already and what is to be repaired; the names of what stays damaged."""
        damaged = _damaged(self.hold.folder, known)
        if repair:
            self.repairs = {key: known.shards[key] for key in damaged if self.todo.mine(*key)}
        else:  # a shard of which nothing is known is not made again unasked
            for name, why in (*damaged.values(), *known.damaged.items()):
                self.report(f"damaged: {name} ({why})")
            mine = self.todo.mine
            self.todo.mine = lambda *key: key not in damaged and mine(*key)
        for (cell, shard), record in known.shards.items():
            if record.counts:
                self.todo.know(cell, shard, record.counts)
        self.todo.look()
        for key, record in self.repairs.items():
            if record.counts:  # otherwise it counts as missing
                self.todo.again(Task(*key))
        return [] if repair else [*(name for name, _ in damaged.values()), *known.damaged]

    def vanished(self) -> list[str]:
        """Shards that were made and are not there any more."""
        self.hold.check()
        place = self.hold.folder
        found = [(record.file or "", why) for record in self.made if (why := damage(place, record)) is not None]
        for name, why in found:
            self.report(f"damaged: {name} ({why})")
        return [name for name, _ in found]

    def work(self, engine: Engine) -> None:
        """Until nothing is left to do."""
        in_flight = 0
        self._tell(None)
        while True:
            while engine.room() > 0 and (task := self.todo.next()) is not None:
                engine.submit(task)
                in_flight += 1
            if in_flight == 0 and not self.todo.waiting():
                return
            self._heed(engine.trouble())
            for outcome in engine.outcomes(POLL):
                in_flight -= 1
                self._write(outcome)
                self._tell(outcome.task.cell)

    def _heed(self, trouble: str | None) -> None:
        """Tell once what has kept the engine from working for a while."""
        if trouble is None:
            self.trouble_began, self.trouble_told = None, False
            return
        now = time.monotonic()
        self.trouble_began = now if self.trouble_began is None else self.trouble_began
        if not self.trouble_told and now - self.trouble_began > PATIENCE:
            self.trouble_told = True
            self.report(f"waiting: {trouble}")

    def _write(self, outcome: Outcome) -> None:
        task, result = outcome.task, outcome.result
        self.retries += outcome.attempts - 1
        common: dict[str, Any] = dict(attempts=outcome.attempts, seconds=outcome.seconds, session=self.session)
        if result is None:
            cell = cells.cell_at(self.study, task.cell)
            name = f"cell {task.cell} ({cell.label})"
            told = task.cell in self.todo.given_up
            self.failed[name] = outcome.message or ""
            self.todo.given_up.add(task.cell)
            self.book.record(
                manifest.Record(task.cell, task.shard, "failed", counts=(), message=outcome.message, **common)
            )
            if not told:
                self.report(f"failed: {name}: {outcome.message}")
            return
        name, size = file_of(task), len(result.content)
        self.hold.check()  # or the folder would be made anew
        try:
            folder.write_durably(self.hold.folder / name, result.content)
        except OSError:
            self.hold.check()
            raise
        self.made.append(
            manifest.Record(task.cell, task.shard, "done", name, size, result.sha256, result.counts, **common)
        )
        self.book.record(self.made[-1])
        self.new_shards += 1
        before = self.repairs.get((task.cell, task.shard))
        if before is not None:
            self.repaired.append(name)
            if before.counts and before.sha256 != result.sha256:
                self.changed.append(name)
        self.todo.finish(task, result.counts)

    def _tell(self, cell: int | None) -> None:
        todo = self.todo
        self.progress(
            Progress(
                len(todo.settled),
                len(todo.totals),
                int(todo.totals.sum()),
                todo.left(),
                self.new_shards,
                self.new_shards * self.study.shard,
                self.retries,
                len(self.failed),
                time.perf_counter() - self.began,
                cell,
                () if cell is None else tuple(todo.totals[cell]),
            )  # fmt: skip
        )


def file_of(task: Task) -> str:
    """Where a shard lies in the study's folder; a few hundred cells share a folder."""
    return rows.file_of(task.cell, task.shard)


def damage(place: Path, record: manifest.Record) -> str | None:
    """What is wrong with a recorded shard, as far as its size tells; None where nothing is."""
    if record.state == "damaged":
        return record.message or "it does not have the recorded hash"
    try:
        size = os.stat(f"{place}/{record.file}").st_size
    except OSError:
        return "missing"
    return None if size == record.bytes else f"{size} bytes, {record.bytes} recorded"


def _damaged(place: Path, known: manifest.Contents) -> dict[tuple[int, int], tuple[str, str]]:
    """Recorded shards that are not there whole: file and reason."""
    found = {}
    for key, record in known.shards.items():
        if record.state != "failed" and (why := damage(place, record)) is not None:
            found[key] = (record.file or "", why)
    return found
