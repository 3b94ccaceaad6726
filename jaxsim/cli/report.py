"""`jaxsim report`: one page about a run or a study."""

from pathlib import Path
from typing import Annotated

import typer

from jaxsim.cli.console import line


def report(
    folder: Annotated[Path, typer.Argument(help="What `jaxsim run` or `jaxsim study run` wrote.")],
    to: Annotated[Path | None, typer.Option(help="HTML file (default: DIR/report.html, which is replaced).")] = None,
) -> None:
    """Write one HTML page about a run or a study, to open anywhere and to send on: nothing is simulated."""
    from jaxsim.report import write

    target = write(folder, to)
    line(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")
