"""The command line: `jaxsim run`, `head`, `geometry`, `basin`, `study`, `reproduce`, `report` and `replay`."""

import atexit
import os
import sys

from jaxsim import _files
from jaxsim.cli import interruption, streams

PROGRAMS = "JAX_COMPILATION_CACHE_DIR"  # where JAX keeps compiled programs, and how long compiling has to have taken


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 results could not be written, 2 bad input, 3 a study's folder is
    held by another process, 130 interrupted, 143 terminated.
    """
    with streams.safe(), interruption.listening():
        keep_programs()
        from jaxsim.cli import commands  # takes seconds, in which one may change one's mind

        atexit.register(interruption.no_more_exceptions)
        commands.main()


def keep_programs() -> None:
    """Have JAX keep compiled programs in the user's folder for such things, which is said when it is made.

    What the environment or `--cache` says goes before.
    """
    if PROGRAMS in os.environ:
        return
    try:
        place = _files.private_folder("programs")
        new = not any(place.iterdir())
    except OSError:  # then every program is compiled again
        return
    os.environ[PROGRAMS] = str(place)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if new:
        print(f"Compiled programs are kept in {place}; {PROGRAMS}= keeps none.", file=sys.stderr)
