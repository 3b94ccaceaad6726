"""`jaxsim study crossing`: where the watched fraction of a study crosses a level along a number that it sweeps."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from jaxsim import _machine
from jaxsim._bars import bar
from jaxsim._check import open_share, positive_number, whole_number
from jaxsim._text import marked
from jaxsim.cli.console import Console
from jaxsim.cli.options import CACHE_HELP
from jaxsim.cli.processes import devices


def crossing(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    against: Annotated[str, typer.Option(help="A number that the file sweeps, such as radius, eta or noise.")],
    level: Annotated[float, typer.Option(help="Level of the fraction that [stop] watches.")] = 0.5,
    width: Annotated[
        float, typer.Option(help="How narrow: ratio of the ends, less 1; with --linear the length.")
    ] = 0.1,
    linear: Annotated[bool, typer.Option("--linear", help="Halve differences in place of ratios.")] = False,
    cores: Annotated[int | None, typer.Option(help="CPU cores to use (default: all).")] = None,
    cache: Annotated[Path | None, typer.Option(help=CACHE_HELP)] = None,
) -> None:
    """Find the value of a swept number at which the fraction crosses a level, between the study's smallest and largest.

    Lanes go where they tell most, and none of the study's cells is run; each interval allows for the search.
    """
    open_share("level", level)
    positive_number("width", width)
    cores = whole_number("cores", _machine.cores() if cores is None else cores, at_most=_machine.MOST_CORES)
    devices(cores, cache, None)
    from jaxsim.study import opening, toml
    from jaxsim.study.crossings import crossings

    spec = toml.load(study)
    files = opening.problem_files(Path(study.stem), spec)
    found = crossings(spec, against, files, level=level, width=width, linear=linear, progress=bar("searches"))
    console = Console()
    grid = Table(title=f"fraction {spec.stop.verdict} crosses {level:g}", title_justify="left")
    for name in ("problem", "init", "rule"):
        grid.add_column(name)
    grid.add_column(against, justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    grid.add_column("lanes", justify="right", no_wrap=True)
    for one in found:
        labels = [marked(label) for label in one.labels]
        if one.found is None:
            grid.add_row(*labels, "-", "", "")
            continue
        ends = f"\\[{one.found.low:.4g}, {one.found.high:.4g}]"
        told = ("rises" if one.found.rises else "falls") + ("" if one.found.settled else ", wide")
        grid.add_row(*labels, ends, told, f"{one.found.lanes.sum():,}")
    console.print(grid)
    for one in found:
        if one.found is None:
            console.print(
                f"{'; '.join(one.labels)}: {one.why}", style="dim", highlight=False, soft_wrap=True, markup=False
            )
    console.print(
        f"Each interval holds with {spec.stop.level:.0%}, whatever the search looked at; wide: with "
        f"{spec.most_shards * spec.shard:,} lanes at one value it cannot be narrowed.",
        style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip
