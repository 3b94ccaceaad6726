"""The manifest of a study: SQLite with cells, shards, their states and hashes, and environments.

Only what is in a manifest exists; a file that is not recorded is nobody's. Every process of a study writes a manifest
of its own and reads all, because SQLite's write-ahead log must not be shared between hosts.
"""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 1
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (session INTEGER PRIMARY KEY, began REAL, ended REAL, environment TEXT);
CREATE TABLE cells (cell INTEGER PRIMARY KEY, problem TEXT, init TEXT, rule TEXT);
CREATE TABLE shards (cell INTEGER, shard INTEGER, state TEXT NOT NULL, file TEXT, bytes INTEGER, sha256 TEXT,
    counts TEXT, attempts INTEGER, seconds REAL, session INTEGER, message TEXT,
    PRIMARY KEY (cell, shard)) WITHOUT ROWID;
"""


class Record(NamedTuple):
    """One shard of the manifest. `state` is done, damaged or failed; a failed one has a message and no file."""

    cell: int
    shard: int
    state: str
    file: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    counts: tuple[int, ...] = ()
    attempts: int = 1
    seconds: float = 0.0
    session: int = 0
    message: str | None = None


class Manifest:
    """A manifest open for writing."""

    def __init__(self, path: Path):
        self.path = path
        new = not path.exists()
        with _explained(path):
            self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            if new or not self._base.execute("SELECT name FROM sqlite_master WHERE name='meta'").fetchone():
                with self._all_or_nothing():
                    for statement in SCHEMA.split(";")[:-1]:
                        self._base.execute(statement)
                    self._base.execute("INSERT INTO meta VALUES ('format', ?)", (str(FORMAT),))
        check_format(self._base, path)

    def put(self, **values: Any) -> None:
        """Set named values."""
        with _explained(self.path), self._all_or_nothing():
            rows = [(name, json.dumps(value)) for name, value in values.items()]
            self._base.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def put_cells(self, rows: Iterable[tuple[int, str, str, str]]) -> None:
        """Write the table of cells, for those who read the manifest without this package."""
        with _explained(self.path), self._all_or_nothing():
            self._base.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?)", rows)

    def begin(self, environment: dict[str, Any]) -> int:
        """Start a session and give its number."""
        with _explained(self.path):
            values = (time.time(), json.dumps(environment, sort_keys=True))
            found = self._base.execute("INSERT INTO sessions (began, environment) VALUES (?, ?)", values)
        return int(found.lastrowid or 0)

    def record(self, record: Record) -> None:
        """Write or replace a shard; on return it is on the disk."""
        row = record._replace(counts=json.dumps(record.counts))  # type: ignore[arg-type]
        with _explained(self.path):
            self._base.execute(f"INSERT OR REPLACE INTO shards VALUES ({', '.join('?' * len(row))})", row)

    def remark(self, record: Record) -> None:
        """Change state and message of a shard that this manifest has."""
        values = (record.state, record.message, record.cell, record.shard)
        with _explained(self.path):
            self._base.execute("UPDATE shards SET state=?, message=? WHERE cell=? AND shard=? AND file NOTNULL", values)

    def close(self, session: int | None = None) -> None:
        """End the session and fold the log into the file; a manifest left open loses nothing."""
        with contextlib.suppress(sqlite3.Error):
            if session is not None:
                self._base.execute("UPDATE sessions SET ended=? WHERE session=?", (time.time(), session))
            self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._base.close()

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")


@dataclasses.dataclass(frozen=True)
class Contents:
    """What the manifests of a folder say, taken together."""

    meta: dict[str, Any]
    shards: dict[tuple[int, int], Record]
    sessions: list[dict[str, Any]]


def manifests(folder: Path) -> list[Path]:
    """The manifests in a folder, in order of process."""
    return sorted(folder.glob("manifest-*.sqlite")) if os.path.isdir(folder) else []  # a name may be too long


def manifest_of(folder: Path, process: int = 0) -> Path:
    """Where a process keeps its manifest."""
    return folder / f"manifest-{process:04d}.sqlite"


def read(folder: Path) -> Contents:
    """All manifests of a folder.

    Raises:
        ValueError: where there is none, one is not a manifest, or one comes from a newer version.
    """
    paths = manifests(folder)
    if not paths:
        raise ValueError(f"study: expected the folder of a study; {os.fspath(folder)!r} holds no manifest")
    meta: dict[str, Any] = {}
    shards: dict[tuple[int, int], Record] = {}
    sessions = []
    for path in paths:
        with _reading(path) as base:
            if not base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                continue  # its process has only just begun, or was killed there
            check_format(base, path)
            meta = {name: json.loads(value) for name, value in base.execute("SELECT * FROM meta")} | meta
            for row in base.execute("SELECT * FROM shards ORDER BY cell, shard"):
                record = Record._make((*row[:6], _counts(row[6]), *row[7:]))
                known = shards.get((record.cell, record.shard))
                if known is None or known.state != "done":
                    shards[record.cell, record.shard] = record
            for began, ended, environment in base.execute("SELECT began, ended, environment FROM sessions"):
                sessions.append({"began": began, "ended": ended, "environment": json.loads(environment)})
    return Contents(meta, dict(sorted(shards.items())), sessions)


@functools.lru_cache(maxsize=2**16)
def _counts(text: str) -> tuple[int, ...]:
    return tuple(json.loads(text))


def check_format(base: sqlite3.Connection, path: Path) -> None:
    """Refuse what is not a manifest, or is one of a newer version."""
    try:
        found = base.execute("SELECT value FROM meta WHERE name='format'").fetchone()
        number = int(found[0])
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:
        raise ValueError(f"study: {os.fspath(path)!r} is not the manifest of a study ({error})") from error
    if number > FORMAT:
        raise ValueError(
            f"study: {os.fspath(path)!r} has format {number}; this version of jaxsim reads up to {FORMAT}. "
            "Use the version that wrote it, or a newer one."
        )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing, also where the folder cannot be written or the disk is full."""
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)))
        try:
            base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:  # the log's index cannot be made there
            copies = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for source in (path, path.with_name(path.name + "-wal")):
                if source.exists():
                    shutil.copyfile(source, copies / source.name)
            base = stack.enter_context(contextlib.closing(sqlite3.connect(copies / path.name)))
        except sqlite3.DatabaseError as error:
            raise ValueError(f"study: {os.fspath(path)!r} is not the manifest of a study ({error})") from error
        yield base


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of SQLite as errors of the file system, with the name of the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise OSError(None, f"{error} (SQLite)", os.fspath(path)) from error
        raise ValueError(f"study: {os.fspath(path)!r} is not the manifest of a study ({error})") from error
