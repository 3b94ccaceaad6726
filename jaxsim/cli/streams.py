"""Standard output and standard error that never fail: what is printed is a farewell, and the work is done."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

from jaxsim._text import fitting


class Stream:
    """A stream in whose place this one is written to.

    Characters that its encoding lacks fall back on those it has. Once it fails it is silent: a reader that has gone, as
    with `| head -1`, needs no more; any other failure is kept in `failure`. It has no `buffer`, past which others
    would write.
    """

    def __init__(self, stream: Any):
        self._stream = stream
        self._silent = stream is None
        self.failure: str | None = None

    @property
    def encoding(self) -> str:
        """Of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write the text as far as that is possible."""
        self._attempt(lambda: self._stream.write(fitting(text, self.encoding)))
        return len(text)

    def flush(self) -> None:
        """Flush the stream as far as that is possible."""
        self._attempt(lambda: self._stream.flush())

    def close(self) -> None:
        """Flush; the stream stays open, because others write to it, and libraries close what they were given."""
        self.flush()

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Whether somebody reads along."""
        with contextlib.suppress(ValueError):  # of a closed stream
            return not self._silent and self._stream.isatty()
        return False

    def fileno(self) -> int:
        """The number of the stream."""
        if self._stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._stream.fileno()

    def _attempt(self, act: Any) -> None:
        if self._silent:
            return
        try:
            act()
        except (OSError, ValueError) as error:  # of a closed stream: ValueError
            self._silent = True
            if isinstance(error, OSError) and error.errno != errno.EPIPE:
                self.failure = error.strerror or str(error)
            self._drain()

    def _drain(self) -> None:
        """What is left in the stream's memory goes nowhere, or the interpreter would fail on it at its end."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def safe() -> Iterator[None]:
    """For the length of the block everything that is printed goes to streams that never fail."""
    _fill()
    before = sys.stdout, sys.stderr
    out, err = sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)
    try:
        yield
    finally:
        out.flush()
        if out.failure:
            err.write(f"could not print everything: {out.failure}\n")
        err.flush()
        sys.stdout, sys.stderr = before


def _fill() -> None:
    """Open the standard numbers that are closed: a file of results must not get one, as libraries write to them."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
