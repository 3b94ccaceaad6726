"""Ctrl-C and SIGTERM: one line, what is unfinished is undone, and the process ends, whatever it was doing.

No exception is raised for it. One that is raised at any moment is also raised inside destructors and callbacks of
garbage collection, which swallow it and print a traceback, as JAX's callback does in one case of two.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from jaxsim import _files

PATIENCE = 1.0  # seconds that compiled code may keep the interpreter from its signal handler
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
Parting = Callable[[int], tuple[str, int]]
_leaving = threading.RLock()  # whoever takes it keeps it
_left = False
_parting: list[Parting] = [lambda number: (WORDS[signal.Signals(number)], 128 + number)]


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """For the length of the block, SIGINT and SIGTERM end the process with exit code 130 or 143.

    A signal that was ignored stays so, as in the background of a shell script. Outside the main thread, where Python
    allows no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in WORDS}
    heard, told = os.pipe()
    os.set_blocking(told, False)
    woken = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(heard,), name="interruption", daemon=True).start()
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, lambda number, _: _leave(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        os.close(told)


@contextlib.contextmanager
def parting(words: Parting) -> Iterator[None]:
    """For the length of the block, an interruption ends with other words and another exit code.

    Args:
        words: from the number of the signal to the line and the exit code.
    """
    _parting.append(words)
    try:
        yield
    finally:
        _parting.remove(words)


def no_more_exceptions() -> None:
    """At the interpreter's end Ctrl-C ends it, where an exception would only be printed: nothing is left to lose."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _watch(heard: int) -> None:
    """Leave when the interpreter has heard a signal and does not come to it, because compiled code runs for hours."""
    with os.fdopen(heard, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] in list(WORDS) and signal.getsignal(number[0]) != signal.SIG_IGN:
                threading.Event().wait(PATIENCE)
                _leave(number[0])


def _leave(number: int) -> None:
    """End the process. The streams are written to directly: the signal may have come while they were in use."""
    global _left
    with _leaving:  # another thread waits here for good
        if _left:  # the signal came again while this thread was leaving
            return
        _left = True
        words, code = _parting[-1](number)
        try:
            _files.undo_all()
            back = "\r\x1b[2K\x1b[?25h" if os.isatty(2) else ""  # the line of the progress bar, and the cursor
            os.write(2, f"{back}{words}\n".encode())
        finally:
            os._exit(code)
