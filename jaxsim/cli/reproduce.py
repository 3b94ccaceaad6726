"""`jaxsim reproduce`: published experiments run again, published and recomputed numbers side by side."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from jaxsim import _files, _machine
from jaxsim._check import whole_number
from jaxsim._text import marked
from jaxsim.cli.console import Console, line
from jaxsim.cli.table import progress, where

NAME_HELP = "An experiment, `list` for their names, or `all` for every one and a page over them."
OUT_HELP = "New or empty results folder (default: next jaxsim-reproduce-NNN)."


def reproduce(
    name: Annotated[str, typer.Argument(help=NAME_HELP)],
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, in seconds; means differ by chance.")] = False,
    cores: Annotated[int | None, typer.Option(help="CPU cores to use (default: all).")] = None,
    out: Annotated[Path | None, typer.Option(help=OUT_HELP)] = None,
) -> None:
    """Run a published experiment again and say where its numbers differ, and why."""
    import jax

    began = time.perf_counter()
    cores = whole_number("cores", _machine.cores() if cores is None else cores, at_most=_machine.MOST_CORES)
    jax.config.update("jax_num_cpu_devices", cores)
    jax.config.update("jax_enable_x64", True)
    from jaxsim import reproduce as room
    from jaxsim import storage
    from jaxsim.reproduce import pages

    if name == "list":
        for key, text in room.EXPERIMENTS.items():
            line(f"{key:18} {text}")
        return
    if name != "all" and name not in room.EXPERIMENTS:
        raise ValueError(f"name: expected list, all or one of {', '.join(room.EXPERIMENTS)}; got {name!r}")
    results, seconds = [], []
    names = list(room.EXPERIMENTS) if name == "all" else [name]
    with storage.claim(out, "reproduce") as folder, progress(len(names), "experiments") as advance:
        for key in names:
            advance(0, key)
            start = time.perf_counter()
            results.append(room.reproduce(key, quick))
            seconds.append(time.perf_counter() - start)
            pages.save(results[-1], folder / key if name == "all" else folder)
            advance(1, None)
        settings = {"command": shlex.join(["jaxsim", *sys.argv[1:]]), "quick": quick}
        storage.write_json(folder, settings=settings, environment=storage.environment())
        _files.write_durably(folder / "index.html", pages.page(results, seconds, quick).encode())
    console = Console()
    for result, took in zip(results, seconds, strict=True):
        _show(console, result, took)
    where(folder, time.perf_counter() - began, "index.html")


def _show(console: Console, result, seconds: float) -> None:
    from jaxsim.reproduce.pages import mark
    from jaxsim.reproduce.result import number

    console.print(f"[bold]{marked(result.title)}[/] ({result.name}, {seconds:.1f} s)", highlight=False)
    for text in (result.source, result.settings):
        console.print(marked(text), style="dim", highlight=False)
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("quantity", overflow="fold")
    for column in ("published", "recomputed", "original", ""):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("note", justify="right")
    notes: list[str] = []
    for row in result.rows:
        if row.note and row.note not in notes:
            notes.append(row.note)
        label = f"{notes.index(row.note) + 1}" if row.note else ""
        cells = [number(row.published), number(row.recomputed), number(row.original), mark(row)]
        table.add_row(marked(row.quantity), *cells, label, style="yellow" if row.agrees is False else "")
    console.print(table)
    for k, note in enumerate(notes, 1):
        console.print(f"{k}. {marked(note)}", style="dim", highlight=False)
    for text in result.missing:
        console.print(f"Not reproduced: {marked(text)}", highlight=False)
    for row in result.unexplained:
        console.print(f"Differs, not explained: {marked(row.quantity)}", style="bold", highlight=False)
    console.print()
