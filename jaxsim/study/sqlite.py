"""The file of a manifest: its schema and formats, connections that change nothing, errors that name it."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxsim.study.rows import COLUMNS

FORMAT = 2  # the first had no checksums
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT) WITHOUT ROWID;
CREATE TABLE sessions (session INTEGER PRIMARY KEY, began REAL, ended REAL, environment TEXT, checksum TEXT);
CREATE TABLE cells (cell INTEGER PRIMARY KEY, problem TEXT, init TEXT, rule TEXT, checksum TEXT);
CREATE TABLE shards (cell INTEGER, shard INTEGER, state TEXT NOT NULL, file TEXT, bytes INTEGER, sha256 TEXT,
    counts TEXT, attempts INTEGER, seconds REAL, session INTEGER, message TEXT, checksum TEXT,
    PRIMARY KEY (cell, shard)) WITHOUT ROWID;
"""


def rows_of(base: sqlite3.Connection, table: str, number: int) -> Iterator[tuple[Any, ...]]:
    """Rows with their checksum in the end; the first format has none."""
    return base.execute(f"SELECT {', '.join(COLUMNS[table])}, {'checksum' if number > 1 else 'NULL'} FROM {table}")


def format_of(base: sqlite3.Connection, path: Path) -> int:
    """The format of a manifest; what is none, or is one of a newer version, is refused."""
    try:
        number = int(base.execute("SELECT value FROM meta WHERE name='format'").fetchone()[0])
        if number < 1:
            raise ValueError(f"format {number}")
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:
        raise ValueError(f"study: {os.fspath(path)!r} is not the manifest of a study ({error})") from error
    if number > FORMAT:
        raise ValueError(
            f"study: {os.fspath(path)!r} has format {number}; this version of jaxsim reads up to {FORMAT}. "
            "Use the version that wrote it, or a newer one."
        )
    return number


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing, also where the folder cannot be written or the disk is full.

    Raises:
        ValueError: whatever SQLite or the file system says of the file, with its name.
    """
    try:
        with contextlib.ExitStack() as stack:
            link = f"{path.absolute().as_uri()}?mode=ro"
            base = stack.enter_context(contextlib.closing(sqlite3.connect(link, uri=True)))
            try:
                base.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.OperationalError:  # the log's index cannot be made there
                copies = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                for source in (path, path.with_name(path.name + "-wal")):
                    if source.exists():
                        shutil.copyfile(source, copies / source.name)
                base = stack.enter_context(contextlib.closing(sqlite3.connect(copies / path.name)))
            base.text_factory = lambda text: text.decode("utf-8", "replace")  # its checksum tells
            (state,) = base.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            yield base
    except (sqlite3.Error, UnicodeDecodeError) as error:  # a damaged file's names stand in SQLite's own messages
        reason = " ".join(str(error).split())
        raise ValueError(f"study: {os.fspath(path)!r} is not the manifest of a study ({reason})") from error
    except OSError as error:
        raise ValueError(f"study: {os.fspath(path)!r} cannot be read ({error.strerror})") from error


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of SQLite as errors of the file system, with the name of the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise OSError(None, f"{error} (SQLite)", os.fspath(path)) from error
        raise ValueError(f"study: {os.fspath(path)!r} is not the manifest of a study ({error})") from error
