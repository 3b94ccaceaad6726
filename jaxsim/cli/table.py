"""What `jaxsim run` prints: a progress line while it works, a table for each problem, where the results are."""

import contextlib
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from jaxsim._bars import drawn_on
from jaxsim._text import counted, marked, printable
from jaxsim.analysis import VERDICTS, Proportion
from jaxsim.analysis.verdict import COMMON, MEANINGS, PREDICTION
from jaxsim.cli.console import Console
from jaxsim.margin import max_margin
from jaxsim.results import Run
from jaxsim.results.summary import ERRORS

COLUMNS = 3  # rules side by side in 80 characters
SHOWN = 20  # lanes that are listed
WIDTH = 104  # of explanations


@contextlib.contextmanager
def progress(total: int, unit: str = "lanes") -> Iterator[Callable[[int, str | None], None]]:
    """A progress line on stderr, counted in lanes or what `unit` says; plain lines where stderr is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:

        def plain(done: int, what: str | None) -> None:
            if what is not None:
                console.print(f"running {marked(what)}", highlight=False)

        yield plain
        return
    with drawn_on(console, unit, transient=True) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda done, what: bar.update(task, advance=done, description=None if what is None else printable(what))


def show(name: str, runs: Sequence[Run]) -> None:
    """Tables with rules as columns: verdicts with 95% intervals, then medians and the fitted rate."""
    n, T, d = runs[0].problem.shape
    reference = max_margin(runs[0].problem)
    limit = f"‖W_mm‖={reference.norm:.4g}" if reference.feasible else "W_mm infeasible"
    sizes = f"n={n}, T={T}, d={d}, {limit}; {_count(runs[0].lanes, 'lane')}, {counted(runs[0].steps[-1])} steps"
    console = Console()
    console.print(f"{marked(name)}: {sizes}", style="bold", highlight=False, soft_wrap=True)
    for k in range(0, len(runs), COLUMNS):
        console.print(_grid(runs[k : k + COLUMNS]))
    for run in runs:
        if "until" in run.settings and run.open.any():
            left = np.flatnonzero(run.open)
            shown = ", ".join(map(str, left[:SHOWN])) + (", …" if len(left) > SHOWN else "")
            said = f"{len(left):,} lanes still transient or unresolved at {counted(run.steps[-1])} steps: {shown}"
            console.print(f"{marked(run.settings['rule'])}: {said}", highlight=False, soft_wrap=True)
        for lane in run.summary()["nonfinite"][:3]:
            said = f"lane {lane['lane']} was not finite at recorded step {lane['first_recorded_step']}"
            console.print(f"{marked(run.settings['rule'])}: {said}")


def _grid(runs: Sequence[Run]) -> Table:
    grid = Table()
    grid.add_column("")
    for run in runs:
        grid.add_column(marked(run.label), justify="right")
    summaries = [run.summary() for run in runs]
    fractions = [run.fractions() for run in runs]
    percent = _percent if runs[0].lanes > 1 else lambda p: str(p.count)
    unit = " %" if runs[0].lanes > 1 else ""
    for verdict in VERDICTS:
        grid.add_row(verdict + unit, *(percent(f[verdict]) for f in fractions))
    if any(run.converged.any() for run in runs):
        grid.add_row("at a minimum", *(f"{run.converged.sum():,}" for run in runs))
    grid.add_section()
    for verdict in ("global", "local"):
        aligned = [Proportion(**s["verdicts_by_direction"][verdict]) for s in summaries]
        grid.add_row(f"aligned {verdict}{unit}", *(percent(p) for p in aligned))
    grid.add_section()
    for verdict in ("global", "local"):
        grid.add_row(f"error, {verdict}", *(_number(s["median_direction_error"][verdict]) for s in summaries))
    grid.add_row("log10(1 - φ)", *(_number(s["median_log10_attention_gap"]) for s in summaries))
    grid.add_row("‖W‖", *(_number(s["median_norm"]) for s in summaries))
    for name, title in runs[0].settings["curves"].items():
        if title and name in runs[0].more:
            grid.add_row(title, *(_number(s["median_more"][name]) for s in summaries))
    rates = [_rate(s["rate"]) for s in summaries]
    grid.add_row("rate", *(slope for slope, _ in rates))
    grid.add_row("rate, interval", *(interval for _, interval in rates))
    grid.add_row("R², drift", *(_straight(s["rate"]) for s in summaries))
    grid.add_row("rate, lanes", *(f"{s['rate']['lanes']:,}" for s in summaries))
    for error in ERRORS:
        reached = [s["steps_to_error"][str(error)] for s in summaries]
        if any(reached):
            grid.add_row(f"steps to error {error}", *("-" if step is None else _rounded(step) for step in reached))
    grid.add_row("selections", *(str(s["distinct_selections"]) for s in summaries))
    if any("capped_steps" in run.report for run in runs):
        grid.add_row("capped, mean", *(_mean(run, "capped_steps") for run in runs))
    if any("chaotic" in run.report for run in runs):
        grid.add_row("chaotic lanes", *(f"{s['report'].get('chaotic', 0.0):,.0f}" for s in summaries))
    if any("leaps" in run.report for run in runs):
        grid.add_row("leaps, mean", *(_mean(run, "leaps") for run in runs))
        grid.add_row("steps made, mean", *(_mean(run, "single_steps") for run in runs))
        grid.add_row("leaps off by", *(_number(s["report"].get("leap_error")) for s in summaries))
        stuck = [s["report"].get("stuck_at", 0.0) for s in summaries]
        if any(stuck):
            grid.add_row("stuck", *(f"{count:,.0f}" for count in stuck))
    grid.add_row("time", *(f"{s['seconds']:.1f} s" for s in summaries))
    return grid


def closing(folder: Path, seconds: float, leapt: bool = False, shadows: bool = False) -> None:
    """How to read the table, and where everything is."""
    console = Console()
    meanings = "; ".join(f"{name}: {MEANINGS[name]}" for name in COMMON)
    text = (
        f"[low, high]: 95% intervals. {meanings}; aligned: W also points along its max-margin limit. {PREDICTION} "
        "Below: medians over lanes at the last step. error: distance of W/‖W‖ from its limit. rate: of the error over "
        "the last decade of steps, in lanes that ended global or local (GD: slope against 1/log t); there is one where "
        "they are six or more, their error is at most 0.5 and the line is straight: R² at least 0.9, and drift, the "
        "change of its slope from the earlier to the later half, at most half of it. steps to error: from which it "
        "stays below, the median of the same lanes. selections: distinct ends. capped: mean of shortened steps."
    )
    if shadows:
        text += (
            " chaotic lanes: whose shadow, a lane that starts 1e-12 away, ends with another selection or verdict; "
            "theirs are of rounding as much as of the start."
        )
    if leapt:
        text += (
            " leaps: in time, of lanes slow enough for them; steps made: one by one; off by: the largest bound on the "
            "error of the leaps, relative to the largest logit or coefficient."
        )
    for row in textwrap.wrap(text, WIDTH):
        console.print(marked(row), style="dim", highlight=False, soft_wrap=True)
    where(folder, seconds)


def notes(lines: Iterable[str]) -> None:
    """Lines between the tables and how to read them."""
    console = Console()
    for line in lines:
        console.print(marked(line), highlight=False, soft_wrap=True)


def where(folder: Path, seconds: float | None = None, page: str = "figure.png") -> None:
    """Where everything is, and how long it took."""
    text = f"Results in [bold]{marked(folder)}[/] ({marked(folder / page)})."
    text += "" if seconds is None else f" {seconds:.1f} s in all."
    Console().print(text, highlight=False, soft_wrap=True)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _percent(p: Proportion) -> str:
    value, low, high = (f"{100 * x:.1f}".replace("100.0", "100") for x in (p.value, p.low, p.high))
    return f"{value} \\[{low}, {high}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _rounded(step: float) -> str:
    return f"{step:,.0f}" if step < 1e6 else f"{step:.1e}".replace("e+", "e")


def _rate(rate: dict) -> tuple[str, str]:
    """The slope and its interval, or why there is none."""
    if rate["refused"]:
        return "-", rate["refused"]
    slope = f"t^{rate['slope']:.3f}" if rate["law"] == "power" else f"{rate['slope']:.3f}/log t"
    return slope, f"\\[{rate['low']:.3f}, {rate['high']:.3f}]"


def _straight(rate: dict) -> str:
    """How straight the line is, of which a rate is the slope."""
    if rate["slope"] is None:
        return "-"
    drift = "-" if rate["drift"] is None else f"{100 * rate['drift']:.0f}%"
    return f"{_number(rate['r_squared'])}, {drift}"


def _mean(run: Run, name: str) -> str:
    return f"{run.report[name].mean():,.1f}" if name in run.report else "-"


def delta(advance):
    """Simulate reports totals; the progress bar takes differences."""
    done = 0

    def progress(now: int, _: int) -> None:
        nonlocal done
        advance(now - done, None)
        done = now

    return progress
