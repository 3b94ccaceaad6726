"""The rows of a manifest: their columns, their checksums, and what a row must be to be believed."""

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxsim.analysis import VERDICTS


class Record(NamedTuple):
    """One shard of the manifest.

    `state` is done, damaged or failed; a failed one has a message and no file. A damaged one without counts is one of
    which nothing is known any more.
    """

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

    def row(self) -> tuple[Any, ...]:
        """Its columns as the table of shards has them."""
        return self._replace(counts=json.dumps(self.counts), seconds=float(self.seconds))  # type: ignore[arg-type]


COLUMNS: dict[str, tuple[str, ...]] = {
    "meta": ("name", "value"),
    "sessions": ("session", "began", "ended", "environment"),
    "cells": ("cell", "problem", "init", "rule"),
    "shards": Record._fields,
}
KEYS = {"meta": 1, "sessions": 1, "cells": 1, "shards": 2}  # columns that tell a row from the others


def checksum(row: Sequence[Any]) -> str:
    """What the last column of every table holds: 16 hexadecimal digits of the sha256 of the other columns as JSON.

    Example:
        >>> checksum((3, 0.5, "text", None))
        'ed24728f7545677d'
    """
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16]


def sound(row: Sequence[Any]) -> bool:
    """Whether a row, with its checksum in the end, is as it was written."""
    try:
        return checksum(row[:-1]) == row[-1]
    except TypeError:  # bytes, which are never written
        return False


def file_of(cell: int, shard: int) -> str:
    """Where a shard lies in the study's folder; a few hundred cells share a folder."""
    return f"shards/{cell // 256:04d}/{cell:06d}-{shard:06d}.parquet"


def parsed(row: Sequence[Any], lanes: int) -> Record | None:
    """The record that a row of shards is; None where it can be none.

    Args:
        row: its columns.
        lanes: of a shard.
    """
    cell, shard, state, file, size, digest, text, attempts, seconds, session, message = row
    try:
        counts = _counts(text)
        whole = all(isinstance(n, int) for n in (attempts, session)) and isinstance(seconds, float)
        fits = whole and isinstance(message, str | None) and isinstance(cell, int) and isinstance(shard, int)
        if not fits or cell < 0 or shard < 0:
            return None
        if state == "failed":
            right = counts == () and file is None
        else:
            complete = len(counts) == len(VERDICTS) and min(counts) >= 0 and sum(counts) == lanes
            right = state in ("done", "damaged") and (complete or state == "damaged" and counts == ())
            right = right and file == file_of(cell, shard) and isinstance(size, int) and isinstance(digest, str)
    except (TypeError, ValueError, RecursionError):
        return None
    return (
        Record(cell, shard, state, file, size, digest, counts, attempts, seconds, session, message) if right else None
    )


@functools.lru_cache(maxsize=2**16)
def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(json.loads(text))
    if not all(type(count) is int for count in counts):
        raise TypeError("counts: expected whole numbers")
    return counts
