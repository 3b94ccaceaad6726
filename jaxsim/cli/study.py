"""`jaxsim study`: run a study, see where it stands, verify, export and draw it."""

import os
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Table

from jaxsim import _machine
from jaxsim._check import whole_number
from jaxsim._text import marked
from jaxsim.cli import interruption
from jaxsim.cli._usage import App
from jaxsim.cli.console import Console, line
from jaxsim.cli.live import Live, say
from jaxsim.cli.options import CACHE_HELP
from jaxsim.cli.processes import devices, engine
from jaxsim.cli.table import _count

DAMAGED_OR_FAILED, HELD = 1, 3
OUT_HELP = "Folder; one that holds part of the study is continued (default: the file's name without its ending)."
WORKERS_HELP = (
    "here: this process, all devices; dask: a process per core; tcp://HOST:PORT, on trusted networks, or "
    "tls://HOST:PORT, with the certificates of Dask's configuration: a running Dask scheduler."
)
DISTRIBUTED_HELP = "One of several processes: HOST:PORT,PROCESSES,THIS as for jax.distributed, or auto where it knows."
OF_HELP = (
    "A verdict, whose fraction; a number of lanes, such as direction_error, whose median; or such a number and its "
    "value, as distinct_heads=2: the share of lanes that have it (default: the verdict that the study watches)."
)
AGAINST_HELP = (
    "A number that is swept, such as radius, eta, n or noise, or, of numbers at recorded steps, step; two, as "
    "radius,eta: a heat map."
)
PICTURES = (".png", ".svg", ".pdf", ".eps", ".jpg", ".tif", ".webp")
ROWS = 24  # cells that status lists

app = App(
    name="study",
    help="Large Monte Carlo runs over grids, which stop when the answer is known and resume after anything.",
    no_args_is_help=True,
    epilog="Exit codes: 0 done; 1 shards are damaged, cells failed, or the folder cannot be written or is gone, or the "
    "Dask scheduler is; 2 bad input; 3 another process holds the folder; 130 interrupted. After 1, 3 and 130 the same "
    "command goes on.",
)
Folder = Annotated[Path, typer.Argument(help="The study's folder.")]


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study file; `jaxsim study example` prints one.")],
    out: Annotated[Path | None, typer.Option(help=OUT_HELP)] = None,
    workers: Annotated[str, typer.Option(help=WORKERS_HELP)] = "here",
    timeout: Annotated[float, typer.Option(help="Dask: seconds after which a shard's worker counts as hung.")] = 600.0,
    retries: Annotated[int, typer.Option(help="Dask: further tries of a shard whose worker died or hung.")] = 3,
    repair: Annotated[bool, typer.Option("--repair", help="Make damaged and missing shards again.")] = False,
    cores: Annotated[int | None, typer.Option(help="CPU cores to use (default: all).")] = None,
    cache: Annotated[Path | None, typer.Option(help=CACHE_HELP)] = None,
    distributed: Annotated[str | None, typer.Option(help=DISTRIBUTED_HELP)] = None,
) -> None:
    """Run a study, or what is missing of it; Ctrl-C stops cleanly and the same command goes on."""
    cores = whole_number("cores", _machine.cores() if cores is None else cores, at_most=_machine.MOST_CORES)
    process, processes = devices(cores, cache, distributed)
    from jaxsim.study import engines, folder, running, toml

    spec = toml.load(study)
    place = Path(study.stem) if out is None else out
    shown = Live(spec)
    try:
        with interruption.parting(shown.farewell):
            found = running.run(
                spec, place, engine=engine(workers, cores, timeout, retries), repair=repair, process=process,
                processes=processes, report=shown.line, progress=shown.progress,
            )  # fmt: skip
    except folder.Held as error:
        say(f"[bold red]error[/] {marked(error)}; wait for it, or stop it with Ctrl-C")
        raise typer.Exit(HELD) from None
    except OSError as error:
        said = f"could not write {error.filename or place}: {error.strerror or error}"
        _give_up(shown, said, "What is complete is safe. Make room or mend the folder, and the same command goes on.")
    except folder.Gone as error:
        said = f"{place}: {error}"
        _give_up(shown, said, "Move it back and the same command goes on; without it the same command begins anew.")
    except engines.Lost as error:
        _give_up(shown, str(error), "What is complete is safe, and with workers the same command goes on.")
    finally:
        shown.stop()
    _closing(place, found)


def _give_up(shown: Live, what: str, then: str) -> NoReturn:
    """End the process at once: nothing in flight can be kept."""
    shown.stop()
    say(f"[bold red]error[/] {marked(what)}")
    say(then)
    sys.stderr.flush()
    os._exit(DAMAGED_OR_FAILED)


def _closing(place: Path, found: Any) -> None:
    """What was done, what is wrong, and the exit code."""
    for name in found.changed:
        say(f"repaired {marked(name)}, but to other bytes: made by another machine or version than before")
    done = f"{_count(found.new_shards, 'shard')} made" if found.new_shards else "nothing was left to do"
    done += f", {len(found.repaired)} of them repaired" if found.repaired else ""
    done += f", {found.retries} retries" if found.retries else ""
    line(f"{done}. Results in {place}: jaxsim study status {place}")
    if found.damaged:
        say(f"{_count(len(found.damaged), 'damaged shard')}, as listed above: run again with --repair")
    if found.failed:
        say(f"{_count(len(found.failed), 'failed cell')}, as listed above; running again tries them again")
    if found.damaged or found.failed:
        raise typer.Exit(DAMAGED_OR_FAILED)


@app.command()
def status(
    folder: Folder,
    every: Annotated[
        bool, typer.Option("--all", help=f"Every cell, in order; else the {ROWS} widest intervals.")
    ] = False,
) -> None:
    """Say where a study stands: cells, lanes, fractions with intervals, damage, failures."""
    import numpy as np

    from jaxsim.analysis.intervals import KINDS
    from jaxsim.analysis.verdict import PREDICTION
    from jaxsim.study import folder as places
    from jaxsim.study import open_study

    reader = open_study(folder)
    spec, who = reader.study, places.holder(folder)
    lanes = reader.counts.sum(1)
    console = Console()
    console.print(
        f"{marked(spec.name)}: {reader.cells_done:,} of {reader.count:,} cells done, {lanes.sum():,} lanes in "
        f"{len(reader.records):,} shards" + (f"; in use by {marked(who)}" if who else ""),
        style="bold", highlight=False, soft_wrap=True,
    )  # fmt: skip
    values, low, high = reader.watched()
    few = reader.count > ROWS and not every
    order = np.argsort(-(high - low), kind="stable")[:ROWS] if few else np.arange(reader.count)
    title = f"the {ROWS} widest intervals of {reader.count:,}; --all shows every cell" if few else ""
    grid = Table(title=title, title_justify="left")
    for name in ("problem", "init", "rule"):
        grid.add_column(name)
    for name in ("lanes", spec.stop.verdict, f"{spec.stop.level:.0%} interval"):
        grid.add_column(name, justify="right", no_wrap=True)
    for index in order.tolist():
        cell = reader.cell(index)
        share = f"{values[index]:.3f}" if lanes[index] else "-"
        ends = f"\\[{low[index]:.3f}, {high[index]:.3f}]" if lanes[index] and low[index] >= 0 else "-"
        grid.add_row(
            *(marked(each.label) for each in (cell.problem, cell.init, cell.rule)), f"{lanes[index]:,}", share, ends
        )
    console.print(grid)
    console.print(f"intervals: {KINDS[spec.stop.interval]}", style="dim", highlight=False, soft_wrap=True)
    console.print(PREDICTION, style="dim", highlight=False, soft_wrap=True)
    for name, why in reader.damaged.items():
        console.print(f"damaged: {name} ({why})", style="red", highlight=False, soft_wrap=True, markup=False)
    for index, why in reader.failed.items():
        text = f"failed: cell {index} ({reader.cell(index).label}): {why}"
        console.print(text, style="red", highlight=False, soft_wrap=True, markup=False)
    if reader.damaged or reader.failed:
        raise typer.Exit(DAMAGED_OR_FAILED)


@app.command()
def verify(
    folder: Folder,
    sample: Annotated[int, typer.Option(help="Shards to compute again and compare.")] = 3,
    cores: Annotated[int | None, typer.Option(help="CPU cores to use (default: all).")] = None,
) -> None:
    """Check the hash of every shard, and compute a sample again."""
    cores = whole_number("cores", _machine.cores() if cores is None else cores, at_most=_machine.MOST_CORES)
    whole_number("sample", sample, 0)
    devices(cores, None, None)
    from jaxsim.study import audit
    from jaxsim.study.folder import Held

    try:
        found = audit.verify(folder, sample)
    except Held as error:
        say(f"[bold red]error[/] {marked(error)}")
        raise typer.Exit(HELD) from None
    for name, why in found.damaged.items():
        line(f"damaged: {name} ({why})")
    for name in found.different:
        line(f"different: {name} (computed again, it has other bytes)")
    sound = found.shards - len(found.damaged)
    print(f"{sound:,} of {found.shards:,} shards have their recorded hash; {found.repeated} computed again", end="")
    print(", all the same" if not found.different else f", {len(found.different)} different")
    if found.damaged:
        line(f"repair them with: jaxsim study run STUDY.toml --out {folder} --repair")
    if found.damaged or found.different:
        raise typer.Exit(DAMAGED_OR_FAILED)


@app.command()
def export(
    folder: Folder,
    to: Annotated[Path, typer.Option(help="New file: .parquet for all lanes; .nc or .zarr for fractions by cell.")],
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Go on without damaged shards.")] = False,
) -> None:
    """Write a study as one file."""
    from jaxsim.study import audit

    rows = audit.export(folder, to, leave_out)
    line(f"{rows:,} {'lanes' if to.suffix == '.parquet' else 'cells'} in {to}")


@app.command()
def plot(
    folder: Folder,
    against: Annotated[str, typer.Option(help=AGAINST_HELP)] = "radius",
    of: Annotated[str | None, typer.Option(help=OF_HELP)] = None,
    to: Annotated[Path | None, typer.Option(help="Picture (default: DIR/figure.png).")] = None,
) -> None:
    """Draw the watched fraction, or what --of names, against one number that is swept, a line per rule; or two."""
    from jaxsim import plot as figures
    from jaxsim import storage
    from jaxsim.analysis import VERDICTS
    from jaxsim.study import open_study
    from jaxsim.study.quantities import named

    reader = open_study(folder)
    target = _picture(folder / "figure.png" if to is None else to)
    if of is None or of in VERDICTS:
        figure = figures.fractions(reader.fractions(), against, of or reader.study.stop.verdict)
    else:
        recorded = "step" in [name.strip() for name in against.split(",")]
        figure = figures.quantity(named(reader, of, recorded), against)
    storage.write_figure(target, figure)
    line(target)


@app.command()
def map(  # noqa: A001
    folder: Folder,
    cell: Annotated[int, typer.Option(help="A cell whose law is a plane; all rules on its problem and plane.")] = 0,
    to: Annotated[Path | None, typer.Option(help="Picture (default: DIR/map-CELL.png).")] = None,
) -> None:
    """Draw the basin maps of a plane, a row per rule, and save each as DIR/map-CELL.npz."""
    from jaxsim import _files, storage
    from jaxsim import plot as figures
    from jaxsim.study import basin_map, open_study

    reader, target = open_study(folder), _picture(folder / f"map-{cell}.png" if to is None else to)
    here, rules = reader.cell(whole_number("cell", cell, 0)), len(reader.study.rules)
    first = cell - cell % rules
    maps = {index: basin_map(reader, index) for index in range(first, first + rules)}
    target = folder / f"map-{cell}.png" if to is None else to
    with _files.together():
        for index, found in maps.items():
            found.save(folder / f"map-{index}.npz")
        storage.write_figure(target, figures.maps(list(maps.values()), here.problem.label))
    line(target)


def _picture(path: Path) -> Path:
    """A name whose ending says which kind of picture it is."""
    if path.suffix.lower() not in PICTURES:
        raise ValueError(f"to: expected a name that ends in {', '.join(PICTURES)}; got {str(path)!r}")
    return path


@app.command()
def example(
    name: Annotated[
        str | None, typer.Argument(help="One of those that --list names (default: a commented one).")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Name every example, with one line each.")] = False,
) -> None:
    """Print an example study file, with comments."""
    files = resources.files("jaxsim.study")
    texts = {
        path.name.removesuffix(".toml"): path.read_text(encoding="utf-8")
        for path in sorted(files.joinpath("examples").iterdir(), key=lambda path: path.name)
        if path.name.endswith(".toml")
    }
    lines = [f"{each:13} {text.partition(chr(10))[0].removeprefix('# ')}" for each, text in texts.items()]
    if listed:
        print(*lines, sep="\n")
    elif name is None:
        print(files.joinpath("example.toml").read_text(encoding="utf-8"), end="")
    elif name in texts:
        print(texts[name], end="")
    else:
        raise ValueError("\n  ".join([f"name: got {name!r}; expected one of", *lines]))
