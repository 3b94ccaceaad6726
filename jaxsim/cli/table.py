"""What `jaxsim run` prints: a progress line while it works, a table for each problem, where the results are."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from jaxsim.analysis import VERDICTS, Proportion
from jaxsim.margin import max_margin
from jaxsim.results import Run


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[int, str | None], None]]:
    """A progress line on stderr, counted in lanes; plain lines where stderr is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:

        def plain(done: int, what: str | None) -> None:
            if what is not None:
                console.print(f"running {what}", highlight=False)

        yield plain
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} lanes"),
    )
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda done, what: bar.update(task, advance=done, description=what)


def show(name: str, runs: Sequence[Run]) -> None:
    """One table: rules as columns; verdicts with 95% intervals, then medians and the fitted rate."""
    n, T, d = runs[0].problem.shape
    reference = max_margin(runs[0].problem)
    limit = f"‖W_mm‖={reference.norm:.4g}" if reference.feasible else "W_mm infeasible"
    title = f"{name}: n={n}, T={T}, d={d}, {limit}; {runs[0].lanes:,} lanes, {runs[0].steps[-1]:,} steps"
    grid = Table()
    grid.add_column("")
    for run in runs:
        grid.add_column(run.settings["rule"].partition("(")[0] + f" {_step(run)}", justify="right")
    fractions = [run.fractions() for run in runs]
    for verdict in VERDICTS:
        grid.add_row(f"{verdict} %", *(_percent(f[verdict]) for f in fractions))
    grid.add_section()
    summaries = [run.summary() for run in runs]
    aligned = [s["verdicts_by_direction"] for s in summaries]
    grid.add_row("aligned global %", *(_percent(Proportion(**a["global"])) for a in aligned))
    grid.add_row("aligned local %", *(_percent(Proportion(**a["local"])) for a in aligned))
    grid.add_section()
    grid.add_row("direction error", *(_number(s["median_direction_error"]) for s in summaries))
    grid.add_row("log10(1 - φ)", *(_number(s["median_log10_attention_gap"]) for s in summaries))
    grid.add_row("‖W‖", *(_number(s["median_norm"]) for s in summaries))
    rates = [_rate(s["rate"]) for s in summaries]
    grid.add_row("rate", *(slope for slope, _ in rates))
    grid.add_row("rate, interval", *(interval for _, interval in rates))
    grid.add_row("selections", *(str(s["distinct_selections"]) for s in summaries))
    if any(run.report for run in runs):
        grid.add_row("capped steps", *(_capped(run) for run in runs))
    grid.add_row("time", *(f"{s['seconds']:.1f} s" for s in summaries))
    console = Console()
    console.print(title, style="bold", highlight=False, soft_wrap=True)
    console.print(grid)
    for summary in summaries:
        for lane in summary["nonfinite"][:3]:
            console.print(
                f"{summary['rule']}: lane {lane['lane']} was not finite at step {lane['first_recorded_step']}"
            )


def closing(folder: Path, seconds: float) -> None:
    """How to read the table, and where everything is."""
    console = Console()
    console.print(
        "[..] 95% intervals. Medians over lanes at the horizon; direction error and rate over lanes that ended\n"
        "global or local, to the lane's own limit. Rate: exponent of t over the last decade (GD: slope in 1/log t).",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Results in [bold]{folder}[/] ({folder / 'figure.png'}). {seconds:.1f} s in all.", highlight=False)


def _step(run: Run) -> str:
    return run.settings["rule"].partition("=")[2].split(",")[0].rstrip(")")


def _percent(p: Proportion) -> str:
    value, low, high = (f"{100 * x:.1f}".replace("100.0", "100") for x in (p.value, p.low, p.high))
    return f"{value} \\[{low}, {high}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _rate(rate: dict) -> tuple[str, str]:
    """The slope and its interval."""
    if math.isnan(rate["slope"]):
        return "-", "-"
    slope = f"t^{rate['slope']:.3f}" if rate["law"] == "power" else f"{rate['slope']:.3f}/log t"
    return slope, "-" if math.isnan(rate["low"]) else f"\\[{rate['low']:.3f}, {rate['high']:.3f}]"


def _capped(run: Run) -> str:
    return f"{run.report['capped_steps'].mean():.1f}" if "capped_steps" in run.report else "-"
