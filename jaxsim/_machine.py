"""What this process may use of the machine, and whether what it is asked for can fit."""

import contextlib
import contextvars
import functools
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import threadpoolctl

MOST_CORES = 1024  # devices that JAX is asked to make of one machine
SMALL = 512  # rows of a matrix whose algebra is done by one thread
GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of version 2 and of version 1


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def few_threads(rows: int) -> Iterator[None]:
    """Linear algebra with matrices of so many rows: by one thread where they are small, by all where they are large.

    A second thread gains nothing on a small matrix, and where another process has the core it is waited for: forty
    times as long for a factorisation of 48 rows. The number of cores then does not show in the last digits either.

    The number of threads is the whole process's: where several threads of Python ask for few, one does around them.
    """
    if rows > SMALL or _FEW.get():
        yield
        return
    token = _FEW.set(True)
    try:
        with _pools("scipy.linalg" in sys.modules).limit(limits=1):
            yield
    finally:
        _FEW.reset(token)


_FEW = contextvars.ContextVar("few", default=False)  # whether that has been seen to: it takes 60 µs


@functools.cache
def _pools(scipy: bool) -> Any:
    """The threads of NumPy's linear algebra, and of SciPy's, which has its own, once that is loaded."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def memory() -> int | None:
    """Bytes of memory that this process may use; None where nobody can tell.

    What the machine has, or its control group or its limit on addresses allows where that is less. What others use
    just now is not taken off, so that the same command is refused or not whatever else is running.
    """
    bounds = list(_of_the_machine())
    with contextlib.suppress(ImportError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        bounds += [soft] if soft != resource.RLIM_INFINITY else []
    return min((bound for bound in bounds if bound > 0), default=None)


@functools.cache
def _of_the_machine() -> list[int]:
    """What the machine has, and what its control group allows."""
    bounds = []
    with contextlib.suppress(AttributeError, ValueError, OSError):
        bounds.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for group in GROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            bounds.append(int(Path(group).read_text(encoding="ascii")))
    return bounds


def need(name: str, size: int, what: str, advice: str = "") -> None:
    """Refuse what cannot fit into memory, before any of it is allocated.

    Args:
        name: the argument that asks for it.
        size: bytes needed at the least; a bound from below, so that nothing is refused that would fit.
        what: what needs them.
        advice: what to do about it.

    Raises:
        ValueError: where that is more than `memory` says.

    Example:
        >>> need("d", 80, "ten numbers")
        >>> need("d", 8 * 10**30, "10^30 numbers")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: d: 10^30 numbers need 10^21 GB of memory; this process may use ...
    """
    have = memory()
    if have is not None and size > have:
        raise ValueError(f"{name}: {what} need {_shown(size)} of memory; this process may use {_shown(have)}{advice}")


def _shown(size: int) -> str:
    for unit, power in (("MB", 6), ("GB", 9)):
        if size < 10 ** (power + 3):
            return f"{size / 10**power:.1f} {unit}"
    if size < 10**18:
        return f"{size / 10**9:,.0f} GB"
    return f"10^{math.floor(math.log10(size)) - 9} GB"  # whole numbers know no largest; floats do
