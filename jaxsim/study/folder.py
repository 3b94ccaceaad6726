"""The folder of a study: files that appear whole or not at all, and a lock that says who holds it."""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxsim._files import PART, write_durably

__all__ = ["PART", "Held", "digest", "held", "holder", "remove_parts", "write_durably"]


class Held(RuntimeError):
    """Another process works in the folder."""


def digest(path: Path) -> str:
    """The sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_parts(folder: Path) -> None:
    """Remove what a killed process was writing. Only the holder of the lock may do that."""
    for part in folder.glob(f"shards/*/*{PART}"):
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def held(folder: Path, process: int = 0, processes: int = 1) -> Iterator[None]:
    """Hold the folder, or one process's share of it, for as long as the block lasts.

    The operating system lets go of the lock when the process ends, however it ends.

    Raises:
        Held: where another process holds it; the message says which.
    """
    with contextlib.ExitStack() as stack:
        # Whoever works alone holds all shares; members of a group hold theirs and share the first byte.
        stack.enter_context(_locked(folder / "lock", processes > 1))
        if processes > 1:
            stack.enter_context(_locked(folder / f"lock-{process}", False))
        yield


def holder(folder: Path) -> str | None:
    """Who works in the folder just now; None where nobody does."""
    for path in sorted(folder.glob("lock*")):
        with contextlib.suppress(PermissionError), open(path, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(file.read())
    return None


@contextlib.contextmanager
def _locked(path: Path, shared: bool) -> Iterator[None]:
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Held(f"{path.parent} is in use by {_holder(file.read())}") from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        file.flush()
        yield


def _holder(text: str) -> str:
    try:
        who: dict[str, Any] = json.loads(text)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(who["since"]))
        return f"process {who['pid']} on {who['host']}, since {since}"
    except (ValueError, KeyError, TypeError):
        return "another process"
