"""The one way a file of results is written: whole or not at all; and several files: all or none."""

import contextlib
import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

PART = ".part"
UNUSED_DAYS = 90  # after which what can be made again is removed

Steps = list[Callable[[], object]]
_open: list[Steps] = []  # how to undo each block that is open, step by step; the innermost block last
_together: list[Steps] = []  # those of them that also undo what was made in blocks within


@contextlib.contextmanager
def undone(*steps: Callable[[], object], also_within: bool = False) -> Iterator[None]:
    """Take these steps, the last first, where the block fails or the process ends in the midst of it by `undo_all`.

    Args:
        steps: each may fail with OSError, which stops none of the others.
        also_within: what blocks within this one have made is undone, too.
    """
    mine = list(steps)
    holders = [_open, _together] if also_within else [_open]
    for holder in holders:
        holder.append(mine)
    try:
        yield
    except BaseException:
        _undo(mine)
        raise
    finally:
        for holder in holders:
            holder[:] = [each for each in holder if each is not mine]


def undo_all() -> None:
    """Undo every block that is open, because the process is about to end."""
    for steps in reversed(_open):
        _undo(steps)


def _undo(steps: Steps) -> None:
    for step in reversed(steps):
        with contextlib.suppress(OSError):
            step()


def _made(undo: Callable[[], object]) -> None:
    """Something new is there for good, unless a block around this one fails."""
    for steps in _together:
        steps.append(undo)


def together() -> contextlib.AbstractContextManager[None]:
    """All new files that are written in the block stay, or none: where it fails those written already are removed."""
    return undone(also_within=True)


@contextlib.contextmanager
def whole_at(path: str | os.PathLike) -> Iterator[Path]:
    """The same as `whole` for writers that want a name: a temporary one, for a file or a folder that they make.

    Raises:
        OSError: as the operating system reports it, with the name of the file.
    """
    path = Path(path)
    part, replaced = path.with_name(path.name + PART), os.path.lexists(path)
    remove = functools.partial(_remove, path)
    try:
        with folders(path.parent), undone(*(() if replaced else (remove,)), functools.partial(_remove, part)):
            yield part
            for each in (*part.rglob("*"), part):
                sync(each)
            if not replaced:
                _made(remove)
            os.replace(part, path)
            sync(path.parent)
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file that appears under its name only when the block has ended well, and after any crash is whole or absent.

    A temporary name, flush and fsync, rename, fsync of the folder. Whatever goes wrong, nothing is left behind; a
    file that already had the name stays as it was, unless all that failed was the last fsync.

    Args:
        path: the file; folders on the way to it are made.

    Raises:
        OSError: as the operating system reports it, with the name of the file.
    """
    with whole_at(path) as part, open(part, "wb") as file:
        yield file


def write_durably(path: str | os.PathLike, content: bytes) -> None:
    """Write these bytes as `whole` does."""
    with whole(path) as file:
        file.write(content)


@contextlib.contextmanager
def folders(path: Path) -> Iterator[None]:
    """Make a folder, and those on the way to it; the new ones are removed where the block fails and they are empty."""
    new = [each for each in (path, *path.parents) if not each.exists()][::-1]
    with undone(*(each.rmdir for each in new)):
        path.mkdir(parents=True, exist_ok=True)
        for each in new:
            _made(each.rmdir)
            sync(each.parent)
        yield


def private_folder(name: str) -> Path:
    """A folder of this name, private to the user, among what can be made again; made where it is not there.

    Files in it that were not used for `UNUSED_DAYS` are removed.

    Raises:
        OSError: where it cannot be made, belongs to somebody else, or others may write there.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    place = Path(base, "jaxsim", name)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{place} belongs to another user, or others may write there")
    _forget_unused(place)
    return place


def _forget_unused(place: Path) -> None:
    last = time.time() - UNUSED_DAYS * 86_400
    with os.scandir(place) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process may do the same
                used = entry.stat(follow_symlinks=False)
                if entry.is_file(follow_symlinks=False) and max(used.st_atime, used.st_mtime) < last:
                    os.unlink(entry.path)


def settle(part: Path, path: Path) -> None:
    """Bring a file that is finished to its name, in the same file system, once all of it is on the disk."""
    sync(part)
    os.replace(part, path)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
