"""What `jaxsim study run` computes with: devices of this process, one process of several, or Dask workers."""

import functools
import os
from pathlib import Path
from typing import Any

from jaxsim._check import positive_number, whole_number
from jaxsim.cli.programs import keep_in


def devices(cores: int, cache: Path | None, distributed: str | None) -> tuple[int, int]:
    """Set JAX up before its first computation; which process this is, and of how many.

    Processes of a study share its folder and nothing else. So they do not stay joined: a process of jax.distributed
    aborts when another dies, and those that are named by number need not meet at all.
    """
    import jax

    jax.config.update("jax_num_cpu_devices", cores)
    keep_in(cache)
    if distributed is None:
        return 0, 1
    if distributed == "auto":
        return _found_by_jax()
    return _member(distributed)


def _found_by_jax() -> tuple[int, int]:
    """What jax.distributed finds of this process, and of how many; they meet for that and part at once."""
    import jax
    from jax._src.distributed import global_state  # before any device is set up, JAX tells it nowhere else

    try:
        jax.distributed.initialize()
        found = global_state.process_id, global_state.num_processes
        jax.distributed.shutdown()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"distributed: JAX does not find its processes; {' '.join(str(error).split())}") from error
    global_state.process_id, global_state.num_processes = 0, 1  # or devices would be set up as those of a group
    return found


def _member(text: str) -> tuple[int, int]:
    """Which process this is, and of how many, from HOST:PORT,PROCESSES,THIS."""
    address, *numbers = text.split(",")
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port[:6]) < 2**16 and len(numbers) == 2):
        raise ValueError(
            f"distributed: expected auto or HOST:PORT,PROCESSES,THIS with a port up to 65535; got {text!r}"
        )
    try:
        count, this = (int(number) for number in numbers)
    except ValueError:
        raise ValueError(f"distributed: expected auto or HOST:PORT,PROCESSES,THIS; got {text!r}") from None
    if not 0 < count < 2**31:
        raise ValueError(f"distributed: expected PROCESSES from 1 to {2**31 - 1}; got {count}")
    if not 0 <= this < count:
        raise ValueError(f"distributed: expected THIS from 0 to {count - 1}; got {this}")
    return this, count


def engine(workers: str, cores: int, timeout: float, retries: int) -> Any:
    """What makes the engine that `workers` names."""
    from jaxsim.study.engines import Here

    if workers == "here":
        return Here
    if workers != "dask" and "://" not in workers:
        raise ValueError(
            f"workers: expected here, dask or the address of a scheduler, tcp://HOST:PORT; got {workers!r}"
        )
    from jaxsim.study.dask import Spread

    # Leaving at once after Ctrl-C, the helper of multiprocessing would complain of what it has to clear up.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    options = {"timeout": positive_number("timeout", timeout), "retries": whole_number("retries", retries, 0)}
    return functools.partial(Spread, address=None if workers == "dask" else workers, workers=cores, **options)
