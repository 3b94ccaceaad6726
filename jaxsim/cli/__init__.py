"""The command line: `jaxsim run`, `head`, `geometry`, `basin`, `study`, `reproduce`, `report` and `replay`."""

import atexit

from jaxsim.cli import interruption, programs, streams


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 results could not be written, 2 bad input, 3 a study's folder is
    held by another process, 130 interrupted, 143 terminated.
    """
    with streams.safe(), interruption.listening():
        programs.keep()
        from jaxsim.cli import commands  # takes seconds, in which one may change one's mind

        atexit.register(interruption.no_more_exceptions)
        commands.main()
