"""The manifest of a study: SQLite with cells, shards, their states and hashes, and environments.

Only what is in a manifest exists; a file that is not recorded is nobody's. Every process of a study writes a manifest
of its own and reads all, because SQLite's write-ahead log must not be shared between hosts. Every row ends with a
checksum (`rows.checksum`), so that a value changed by hand or by a flipped bit is noticed whenever it is read.
"""

import contextlib
import dataclasses
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxsim.study.rows import COLUMNS, KEYS, Record, checksum, file_of, parsed, sound
from jaxsim.study.sqlite import FORMAT, SCHEMA, explained, format_of, reading, rows_of

__all__ = ["FORMAT", "Contents", "Manifest", "Record", "manifest_of", "manifests", "read", "wrong_cells"]


class Manifest:
    """A manifest open for writing."""

    def __init__(self, path: Path):
        self.path = path
        new = not path.exists()
        with explained(path):
            self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            if new or not self._base.execute("SELECT name FROM sqlite_master WHERE name='meta'").fetchone():
                with self._all_or_nothing():
                    for statement in SCHEMA.split(";")[:-1]:
                        self._base.execute(statement)
                    self._write("meta", ("format", str(FORMAT)))
            if format_of(self._base, path) == 1:
                self._add_checksums()

    def _write(self, table: str, row: Sequence[Any]) -> None:
        """Insert or replace a row."""
        places = ", ".join("?" * (len(row) + 1))
        self._base.execute(f"INSERT OR REPLACE INTO {table} VALUES ({places})", (*row, checksum(row)))

    def _add_checksums(self) -> None:
        """Bring the first format to this one. Rows of shards that cannot be right stay without a checksum."""
        with self._all_or_nothing():
            lanes = _lanes(dict(self._base.execute("SELECT name, value FROM meta")))
            self._base.execute("UPDATE meta SET value=? WHERE name='format'", (str(FORMAT),))
            for table, columns in COLUMNS.items():
                self._base.execute(f"ALTER TABLE {table} ADD COLUMN checksum TEXT")
                for row in self._base.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall():
                    if not any(isinstance(value, bytes) for value in row) and (
                        table != "shards" or parsed(row, lanes) is not None
                    ):
                        self._write(table, row)

    def put(self, **values: Any) -> None:
        """Set named values."""
        with explained(self.path), self._all_or_nothing():
            for name, value in values.items():
                self._write("meta", (name, json.dumps(value)))

    def put_cells(self, rows: Iterable[tuple[int, str, str, str]]) -> None:
        """Write the table of cells, for those who read the manifest without this package."""
        with explained(self.path), self._all_or_nothing():
            for row in rows:
                self._write("cells", row)

    def begin(self, environment: dict[str, Any]) -> int:
        """Start a session and give its number."""
        with explained(self.path), self._all_or_nothing():
            (last,) = self._base.execute("SELECT max(session) FROM sessions").fetchone()
            self._write("sessions", (session := (last or 0) + 1, time.time(), None, _line(environment)))
        return session

    def record(self, record: Record) -> None:
        """Write or replace a shard; on return it is on the disk."""
        with explained(self.path):
            self._write("shards", record.row())

    def remark(self, record: Record) -> None:
        """Change state, counts and message of a shard that this manifest has."""
        query = f"SELECT {', '.join(COLUMNS['shards'])}, checksum FROM shards WHERE cell=? AND shard=? AND file NOTNULL"
        with explained(self.path):
            row = self._base.execute(query, (record.cell, record.shard)).fetchone()
            if row is not None and sound(row):
                own = Record._make(row[:-1])
                self.record(own._replace(state=record.state, counts=record.counts, message=record.message))

    def forget_wrong_rows(self) -> None:
        """Delete shards and sessions that are not as they were written."""
        with explained(self.path), self._all_or_nothing():
            for table in ("shards", "sessions"):
                where = " AND ".join(f"{name} IS ?" for name in COLUMNS[table][: KEYS[table]])
                for row in list(rows_of(self._base, table, FORMAT)):
                    if not sound(row):
                        self._base.execute(f"DELETE FROM {table} WHERE {where}", row[: KEYS[table]])

    def close(self, session: int | None = None) -> None:
        """End the session and fold the log into the file; a manifest left open loses nothing."""
        with contextlib.suppress(sqlite3.Error):
            if session is not None:
                query = "SELECT session, began, ended, environment FROM sessions WHERE session=?"
                number, began, _, environment = self._base.execute(query, (session,)).fetchone()
                self._write("sessions", (number, began, time.time(), environment))
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
    """What the manifests of a folder say, taken together.

    `damaged` names rows that are not as they were written and of which not even the shard can be told, and why;
    `astray` those of them that were shards. Shards whose rows are not as they were written are damaged ones without
    counts.
    """

    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    shards: dict[tuple[int, int], Record] = dataclasses.field(default_factory=dict)
    sessions: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    damaged: dict[str, str] = dataclasses.field(default_factory=dict)
    astray: set[str] = dataclasses.field(default_factory=set)


def manifests(folder: Path) -> list[Path]:
    """The manifests in a folder, in order of process."""
    return sorted(folder.glob("manifest-*.sqlite")) if os.path.isdir(folder) else []  # a name may be too long


def manifest_of(folder: Path, process: int = 0) -> Path:
    """Where a process keeps its manifest."""
    return folder / f"manifest-{process:04d}.sqlite"


def read(folder: Path) -> Contents:
    """All manifests of a folder.

    Raises:
        ValueError: where there is none, one is not a manifest or cannot be read, or one comes from a newer version.
    """
    paths = manifests(folder)
    if not paths:
        raise ValueError(f"study: expected the folder of a study; {os.fspath(folder)!r} holds no manifest")
    found = Contents()
    for path in paths:
        with reading(path) as base:
            if not base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                continue  # its process has only just begun, or was killed there
            number = format_of(base, path)
            base.execute("SELECT count(*) FROM cells")
            meta = {}
            for name, value, *written in rows_of(base, "meta", number):
                if number > 1 and not sound((name, value, *written)):
                    raise ValueError(f"study: {os.fspath(path)!r} is damaged: {name!r} is not as it was written")
                meta[name] = _json(value, path)
            found.meta.update(meta | found.meta)
            _add_shards(found, base, path, number)
            _add_sessions(found, base, path, number)
    return dataclasses.replace(found, shards=dict(sorted(found.shards.items())))


def _add_shards(found: Contents, base: sqlite3.Connection, path: Path, number: int) -> None:
    lanes = _lanes(found.meta)
    why = f"its row in {path.name} is not as it was written"
    for row in rows_of(base, "shards", number):
        record = parsed(row[:-1], lanes) if number == 1 or sound(row) else None
        if record is None:
            cell, shard = row[:2]
            if not (isinstance(cell, int) and isinstance(shard, int) and cell >= 0 and shard >= 0):
                name = f"{path.name}, shard {cell!r:.40} {shard!r:.40}"
                found.damaged[name] = "its row is not as it was written"
                found.astray.add(name)
                continue
            record = Record(cell, shard, "damaged", file_of(cell, shard), message=why)
        known = found.shards.get((record.cell, record.shard))
        if known is None or (known.state != "done" and len(record.counts) >= len(known.counts)):
            found.shards[record.cell, record.shard] = record


def _add_sessions(found: Contents, base: sqlite3.Connection, path: Path, number: int) -> None:
    for row in rows_of(base, "sessions", number):
        session, began, ended, environment, _ = row
        try:
            if number > 1 and not sound(row):
                raise ValueError
            time.gmtime(float(began))  # of no date, it was not written here
            found.sessions.append({"began": float(began), "ended": ended, "environment": dict(json.loads(environment))})
        except (TypeError, ValueError, OverflowError, OSError, RecursionError):
            found.damaged[f"{path.name}, session {session!r:.40}"] = "its row is not as it was written"


def wrong_cells(folder: Path) -> dict[str, str]:
    """Rows of the tables of cells that are not as they were written, and why."""
    found = {}
    for path in manifests(folder):
        with reading(path) as base:
            number = format_of(base, path)
            wrong = (row for row in rows_of(base, "cells", number) if number > 1 and not sound(row))
            found |= {f"{path.name}, cell {row[0]!r:.40}": "its row is not as it was written" for row in wrong}
    return found


def _lanes(meta: dict[str, Any]) -> int:
    """Of a shard; -1 where the study is not told."""
    try:
        study = json.loads(meta["study"]) if isinstance(meta["study"], str) else meta["study"]
        return int(study["shard"])
    except (KeyError, TypeError, ValueError, RecursionError, OverflowError):
        return -1


def _json(text: Any, path: Path) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"study: {os.fspath(path)!r} is not the manifest of a study ({error})") from error


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
