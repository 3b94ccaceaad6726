"""`jaxsim report`: one page about the folder of a command."""

from pathlib import Path
from typing import Annotated

import typer

from jaxsim.cli.console import line

FOLDER = "What a command wrote: run, study run, basin, head, geometry, replay or reproduce."


def report(
    folder: Annotated[Path, typer.Argument(help=FOLDER)],
    to: Annotated[Path | None, typer.Option(help="HTML file (default: DIR/report.html, which is replaced).")] = None,
) -> None:
    """Write one HTML page about a folder of results, to open anywhere and to send on: nothing is simulated."""
    from jaxsim.report import write

    target = write(folder, to)
    line(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")
