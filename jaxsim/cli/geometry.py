"""`jaxsim geometry`: which max-margin solution each rule ends nearest to."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from jaxsim import _machine
from jaxsim._check import seed_number, whole_number
from jaxsim._text import counted, printable
from jaxsim.cli.console import Console
from jaxsim.cli.options import DATA, named_problems

SIZES = {"n": 4, "T": 5, "d": 6}
REGRESSION_HELP = "Linear logistic regression on the first token of each sequence, in place of attention."
NORMS = (("frobenius", None), ("nuclear", None), ("spectral", None), ("l1", None), ("linf", None), ("lp", 3.0))


def geometry(
    data: Annotated[str, typer.Option(help=f"Problem: {DATA}.")] = "unit-sphere",
    n: Annotated[int | None, typer.Option(help="Sequences; for digits, images (random families: 4).")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", "-T", help="Tokens per sequence (5).")] = None,
    dim: Annotated[int | None, typer.Option("--dim", "-d", help="Embedding dimension (6).")] = None,
    steps: Annotated[int, typer.Option(help="Number of updates.")] = 20_000,
    lanes: Annotated[int, typer.Option(help="Runs per rule, from W_0 with entries N(0, 0.01²).")] = 8,
    batch: Annotated[int | None, typer.Option(help="Sequences per step (default: all).")] = None,
    regression: Annotated[bool, typer.Option("--regression", help=REGRESSION_HELP)] = False,
    seed: Annotated[int, typer.Option(help="Seed of the problem and of the starts.")] = 0,
    out: Annotated[Path | None, typer.Option(help="New or empty folder (default: next jaxsim-geometry-NNN).")] = None,
) -> None:
    """Print rule × geometry: where each rule's W ends, against the max-margin solution of every norm."""
    settings = {name: value for name, value in locals().items() if name != "out"}
    settings["command"] = shlex.join(["jaxsim", *sys.argv[1:]])
    import jax

    seed_number("seed", seed)
    jax.config.update("jax_num_cpu_devices", _machine.cores())
    jax.config.update("jax_enable_x64", True)
    from jaxsim import plot, rules, storage
    from jaxsim.cli.table import where
    from jaxsim.plot.style import new_figure
    from jaxsim.simulation import geometry as study
    from jaxsim.simulation import linear_geometry

    began = time.perf_counter()
    given = {name: value for name, value in {"n": n, "T": tokens, "d": dim}.items() if value is not None}
    if data in ("unit-sphere", "orthonormal", "signal-noise"):
        given = SIZES | given
    hybrid = "frobenius/linf" if regression else "spectral/linf"  # vectors have no spectrum
    chosen = [
        rules.NGD(0.1),
        rules.NormalisedMomentum(0.1),
        rules.Spectral(0.05),
        rules.Muon(0.05),
        rules.SignDescent(0.02),
        rules.Signum(0.02),
        rules.Hybrid(0.02, norms=hybrid),
        rules.Adam(0.02),
        rules.Mirror(0.1, p=1.2),
        rules.Mirror(0.1, p=3),
    ]
    norms = (*NORMS, (hybrid, None))
    if regression:
        chosen = [rule for rule in chosen if rule.coordinates != "primal"]
        norms = tuple(norm for norm in norms if norm[0] not in ("nuclear", "spectral"))

    problems, lanes = named_problems(data, given, seed), whole_number("lanes", lanes)
    settings["rule"] = [repr(rule) for rule in chosen]
    tables: dict[str, Any] = {}
    with storage.claim(out, "geometry") as folder:
        for name, problem in problems.items():
            how: dict[str, Any] = dict(key=jax.random.key(seed), lanes=lanes, steps=steps, norms=norms, batch=batch)
            if regression:
                found = linear_geometry(problem.tokens[:, 0], problem.labels, chosen, **how)
            else:
                found = study(problem, chosen, **how)
            tables[name], which = found, storage.slug(name)
            found.save(folder / f"geometry-{which}.npz")
            figure = new_figure(figsize=(9, 4), layout="constrained")
            plot.geometry(found, figure.subplots()).set_title(printable(name), loc="left")
            first = len(tables) == 1
            storage.write_figure(folder / ("figure.png" if first else f"figure-{which}.png"), figure)
        storage.write_json(folder, settings=settings, environment=storage.environment())
    console = Console()
    each = "sample" if regression else "sequence"
    seen = "" if batch is None else f" of {counted(batch)} {each}{'s' * (batch > 1)}"
    for name, found in tables.items():
        n, T, d = problems[name].shape
        what = f"regression on n={n}, d={d}" if regression else f"n={n}, T={T}, d={d}"
        line = f"{name}: {what}; {lanes} lanes, {steps:,} steps{seen}"
        console.print(line, style="bold", highlight=False, markup=False)
        _show(console, found, "w" if regression else "W")
    counted_lanes = "lanes whose w separates" if regression else "saturated lanes"
    console.print(f"medians over {counted_lanes}; bold: the rule's nearest.")
    where(folder, time.perf_counter() - began)


def _show(console: Console, found: Any, parameter: str) -> None:
    """Both tables of one problem."""
    for title, values in (
        (f"correlation of {parameter} with the max-margin solution of each norm", found.correlation),
        (f"margin of {parameter} over the best margin in each norm (1: a max-margin solution)", found.margin_ratio),
    ):
        table = Table(title=title, title_justify="left")
        table.add_column("rule", no_wrap=True)
        for norm in found.norms:
            table.add_column(norm.replace("/", "/\n"), justify="right")
        for label, row, settled in zip(found.labels, values, found.saturated, strict=True):
            shown = [f"{v:.3f}" if v == v else "-" for v in row]
            if settled:
                best = max(range(len(row)), key=lambda k: row[k] if row[k] == row[k] else -2)
                shown[best] = f"[bold]{shown[best]}[/]"
            table.add_row(label + ("" if settled == found.lanes else f" ({settled} of {found.lanes} lanes)"), *shown)
        console.print(table)
