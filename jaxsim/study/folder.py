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

__all__ = ["PART", "Gone", "Held", "Hold", "digest", "held", "holder", "remove_parts", "write_durably"]


class Held(RuntimeError):
    """Another process works in the folder."""


class Gone(RuntimeError):
    """The folder is not where it was when the work in it began."""


class Hold:
    """A folder that is held, and the files in it that have to stay as long as it is."""

    def __init__(self, folder: Path):
        self.folder, self._seen = folder, dict[Path, tuple[int, int] | None]()

    def watch(self, path: Path) -> None:
        """Have the file stay where it is."""
        self._seen[path] = _identity(path)

    def check(self) -> None:
        """Raise Gone where a file that is watched is not there any more, or is another one of the same name."""
        for path, seen in self._seen.items():
            if _identity(path) != seen:
                raise Gone(f"the folder was moved or deleted while the study ran in it: {path} is not there any more")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def digest(path: Path) -> str:
    """The sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def problem_of(folder: Path, fingerprint: str) -> Path:
    """Where a study keeps a problem that came from a file."""
    return folder / f"problem-{fingerprint[:16]}.npz"


def remove_parts(folder: Path) -> None:
    """Remove what a killed process was writing. Only the holder of the lock may do that."""
    for part in folder.glob(f"shards/*/*{PART}"):
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def held(folder: Path, process: int = 0, processes: int = 1) -> Iterator[Hold]:
    """Hold the folder, or one process's share of it, for as long as the block lasts.

    The operating system lets go of the lock when the process ends, however it ends. What the block gets can say
    whether the folder is still there.

    Raises:
        Held: where another process holds it; the message says which.
    """
    hold = Hold(folder)
    with contextlib.ExitStack() as stack:
        # Whoever works alone holds all shares; members of a group hold theirs and share the first byte.
        stack.enter_context(_locked(folder / "lock", processes > 1))
        if processes > 1:
            stack.enter_context(_locked(folder / f"lock-{process}", False))
        hold.watch(folder / "lock")
        yield hold


def holder(folder: Path) -> str | None:
    """Who works in the folder just now; None where nobody does."""
    for path in sorted(folder.glob("lock*")):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # in the way of as few as can be
            except BlockingIOError:
                return _holder(file.read())
    return None


@contextlib.contextmanager
def _locked(path: Path, shared: bool) -> Iterator[None]:
    with open(path, "a+", encoding="utf-8", errors="replace") as file:
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
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError):
        return "another process"
