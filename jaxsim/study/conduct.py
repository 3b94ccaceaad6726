"""Running a study: what is to do, who does it, and writing down what is done."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxsim.data import files as stored
from jaxsim.storage import environment
from jaxsim.study import cells, folder, manifest, source
from jaxsim.study.engines import Engine, Here, Outcome, Task
from jaxsim.study.spec import Study
from jaxsim.study.todo import Todo, share

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
        engine: makes the engine; `jaxsim.study.engines.Here` or one from `jaxsim.study.dask`.
        repair: make damaged and missing shards again.
        process: which of `processes` this is; each takes its own slice.
        processes: how many processes share the study.
        report: called with lines worth telling.
        progress: called with the state after each step.

    Returns:
        What was done, and what is damaged or failed.

    Raises:
        ValueError: where the folder holds another study, or something else.
        jaxsim.study.folder.Held: where another process works in the folder.
        OSError: where the disk is full or cannot be written; what was complete stays.
    """
    place = Path(out)
    _make(place)
    with folder.held(place, process, processes):
        book, files = _open(place, study, process, processes)
        session = None
        try:
            session = book.begin(environment() | {"hash": study.hash})
            damaged = _damaged(place, manifest.read(place))
            for name, why in damaged.values() if not repair else ():
                report(f"damaged: {name} ({why})")
            job = _Job(study, place, book, session, share(study, process, processes), report, progress)
            job.load(manifest.read(place), damaged if repair else {})
            maker = engine(study, files)
            try:
                job.work(maker)
            finally:
                maker.close()
        finally:
            book.close(session)
    left = [] if repair else [name for name, _ in damaged.values()]
    return Finished(job.new_shards, job.retries, left, job.failed, job.repaired, job.changed)


class _Job:
    """One call of `run` at work."""

    def __init__(self, study: Study, place: Path, book: manifest.Manifest, session: int, mine, report, progress):
        self.study, self.place, self.book, self.session = study, place, book, session
        self.report, self.progress = report, progress
        self.todo = Todo(study, mine)
        self.began = time.perf_counter()
        self.new_shards = self.retries = 0
        self.trouble_began: float | None = None
        self.trouble_told = False
        self.failed: dict[str, str] = {}
        self.repairs: dict[tuple[int, int], manifest.Record] = {}
        self.repaired: list[str] = []
        self.changed: list[str] = []

    def load(self, known: manifest.Contents, damaged: Mapping[tuple[int, int], Any]) -> None:
        """What is done already, and what is to be repaired."""
        for (cell, shard), record in known.shards.items():
            if record.state != "failed":
                self.todo.know(cell, shard, record.counts)
        self.todo.look()
        for cell, shard in damaged:
            if self.todo.mine(cell, shard):
                self.repairs[cell, shard] = known.shards[cell, shard]
                self.todo.again(Task(cell, shard))

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
            self.failed[name] = outcome.message or ""
            self.todo.given_up.add(task.cell)
            self.book.record(
                manifest.Record(task.cell, task.shard, "failed", counts=(), message=outcome.message, **common)
            )
            self.report(f"failed: {name}: {outcome.message}")
            return
        name = file_of(task)
        folder.write_durably(self.place / name, result.content)
        size = len(result.content)
        self.book.record(
            manifest.Record(task.cell, task.shard, "done", name, size, result.sha256, result.counts, **common)
        )
        self.new_shards += 1
        before = self.repairs.get((task.cell, task.shard))
        if before is not None:
            self.repaired.append(name)
            if before.sha256 != result.sha256:
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
    return f"shards/{task.cell // 256:04d}/{task.cell:06d}-{task.shard:06d}.parquet"


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


def _make(place: Path) -> None:
    if place.is_dir():
        strange = [p.name for p in place.iterdir()] if not manifest.manifests(place) else []
        if set(strange) - {"lock"}:
            raise ValueError(
                f"out: expected a new folder or that of a study; {os.fspath(place)!r} holds {strange[0]!r}"
            )
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out: cannot make the folder {os.fspath(place)!r}: {error.strerror}") from error


def _open(place: Path, study: Study, process: int, processes: int) -> tuple[manifest.Manifest, dict[str, bytes]]:
    """The manifest for writing, and the problem files; another study is refused."""
    depends = study.what_shards_depend_on()
    if manifest.manifests(place):
        known = manifest.read(place).meta.get("study")
        there = None if known is None else source.as_study(known).what_shards_depend_on()
        if there is not None and there != depends:
            changes = "\n  ".join(source.differences(there, depends))
            raise ValueError(
                f"out: {os.fspath(place)!r} holds another study, with other shards:\n  {changes}\n"
                "Give this one a folder of its own. Only name and [stop] may change."
            )
    book = manifest.Manifest(manifest.manifest_of(place, process))
    files: dict[str, bytes] = {}
    for entry in study.problem:
        if entry.family == "file":
            kept = place / f"problem-{entry.fingerprint[:16]}.npz"
            if not kept.exists():
                folder.write_durably(kept, Path(entry.path).read_bytes())
            if stored.load(kept).fingerprint() != entry.fingerprint:
                raise ValueError(f"out: {os.fspath(kept)!r} is not the problem with which the study began")
            files[entry.fingerprint] = kept.read_bytes()
    if processes == 1:
        folder.remove_parts(place)
    book.put(study=study.model_dump(), hash=study.hash)
    line = source.json_line
    book.put_cells(
        (cell.index, line(cell.problem.plain()), line(cell.init.plain()), line(cell.rule.plain()))
        for cell in cells.cells(study)
    )
    return book, files
