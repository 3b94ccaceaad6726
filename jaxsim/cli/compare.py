"""`jaxsim compare`: folders of runs side by side."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from jaxsim._text import marked
from jaxsim.cli.console import Console, line

FOLDERS = "Two or more folders that `jaxsim run` wrote."


def compare(
    folders: Annotated[list[Path], typer.Argument(help=FOLDERS)],
    verdict: Annotated[str, typer.Option(help="Whose fractions are held against each other.")] = "global",
    to: Annotated[Path, typer.Option(help="HTML file, which is replaced.")] = Path("compare.html"),
) -> None:
    """Print what differs between runs: settings, fractions with intervals, paired tests where starts are shared."""
    from jaxsim._files import write_durably
    from jaxsim.report.comparison import content
    from jaxsim.report.html import page

    found = content(folders, verdict)
    write_durably(to, page(found).encode())
    console = Console()
    for table in found.tables:
        if not table.rows:
            console.print(f"{table.title}: none", highlight=False)
            continue
        grid = Table(title=marked(table.title), title_justify="left")
        for name in table.columns:
            grid.add_column(marked(name))
        for row in table.rows:
            grid.add_row(*map(marked, row))
        console.print(grid)
    line(to)
