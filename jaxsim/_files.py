"""The one way a file of results is written: whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PART = ".part"


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file that appears under its name only when the block has ended well, and after any crash is whole or absent.

    A temporary name, flush and fsync, rename, fsync of the folder. Whatever goes wrong, nothing is left behind and a
    file that already had the name stays as it was.

    Args:
        path: the file; folders on the way to it are made.

    Raises:
        OSError: as the operating system reports it, with the name of the file.
    """
    path = Path(path)
    part = path.with_name(path.name + PART)
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            sync(path.parent.parent)
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = error.filename or os.fspath(path)
        raise


def write_durably(path: str | os.PathLike, content: bytes) -> None:
    """Write these bytes as `whole` does."""
    with whole(path) as file:
        file.write(content)


def sync(folder: Path) -> None:
    """Have the names of a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
