"""`jaxsim head`: W and the decoder trained on real data by several rules; train and test accuracy."""

import functools
import itertools
import math
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jaxsim import _machine
from jaxsim._check import seed_number, whole_number
from jaxsim._text import marked, printable
from jaxsim.cli import table
from jaxsim.cli.console import Console
from jaxsim.cli.options import named_rules

if TYPE_CHECKING:
    from jaxsim.results import Heads

_Data = functools.partial(typer.Option, rich_help_panel="Data")
_Dynamics = functools.partial(typer.Option, rich_help_panel="Dynamics")
_Output = functools.partial(typer.Option, rich_help_panel="Machine and output")
DATA_HELP = (
    "digits, or a FILE.npz with tokens, queries, labels and optionally mask, test_tokens, test_queries, test_labels, "
    "test_mask."
)
CLASSES_HELP = "digits: two classes such as 3,8, or all for the 45 pairs (default: all)."
RULE_HELP = "NAME=STEP, repeatable (default: gd=10, ngd=0.1, polyak=1, adam=0.03){also_rule}."
BATCH_HELP = "Sequences per step, or full (default: 50, or all where there are fewer)."
LIMITS_HELP = "Which lanes to hold against the att-SVM: all, saturated, or none (for high dimensions)."
RULES = ["gd=10", "ngd=0.1", "polyak=1", "adam=0.03"]
BATCH = 50
SHOWN = (  # curve, title, factor, decimals
    ("train_accuracy", "train accuracy %", 100, 1),
    ("test_accuracy", "test accuracy %", 100, 1),
    ("log10_loss", "-log10 L", -1, 1),
    ("norm", "‖W‖", 1, 1),
    ("decoder_norm", "‖u‖", 1, 1),
    ("direction_error", "error of W", 1, 3),
    ("decoder_direction_error", "error of u", 1, 3),
    ("attention", "attention", 1, 3),
)


def head(
    data: Annotated[str, _Data(help=DATA_HELP)] = "digits",
    classes: Annotated[str | None, _Data(help=CLASSES_HELP)] = None,
    images: Annotated[int | None, _Data(help="digits: training images, half of each class (default: 200).")] = None,
    rule: Annotated[list[str] | None, _Dynamics(help=RULE_HELP)] = None,
    max_step: Annotated[float, _Dynamics(help="polyak: bound on the norm of a step.")] = 1000.0,
    batch: Annotated[str | None, _Dynamics(help=BATCH_HELP)] = None,
    steps: Annotated[int, _Dynamics(help="Number of updates.")] = 1000,
    scale: Annotated[float, _Dynamics(help="Standard deviation of an entry of W_0; u_0 = 0.")] = 0.1,
    lanes: Annotated[int, _Dynamics(help="Starts of every pair and rule.")] = 4,
    limits: Annotated[str, _Dynamics(help=LIMITS_HELP)] = "all",
    seed: Annotated[int, _Dynamics(help="Seed of the starts and of the batches.")] = 0,
    dtype: Annotated[str, _Output(help="float64, or float32: compensated.")] = "float64",
    out: Annotated[Path | None, _Output(help="New or empty results folder (default: next jaxsim-head-NNN).")] = None,
) -> None:
    """Train W and the decoder on real data by several rules, and report train and test accuracy."""
    options = dict(locals())
    import jax

    began = time.perf_counter()
    seed_number("seed", seed)
    jax.config.update("jax_num_cpu_devices", _machine.cores())
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: expected float32 or float64; got {dtype!r}")
    jax.config.update("jax_enable_x64", dtype == "float64")

    from jaxsim import storage
    from jaxsim.head import heads

    sets = _sets(data, classes, images)
    rules = named_rules(rule or RULES, max_step)
    size = _batch(batch, min(len(train.labels) for train, _ in sets.values()))
    settings = {**options, "rule": [repr(r) for r in rules], "batch": size}
    settings["command"] = shlex.join(["jaxsim", *sys.argv[1:]])
    with storage.claim(out, "head") as folder:
        with table.progress(len(sets) * len(rules), "runs") as advance:
            found = heads(
                sets, rules, key=jax.random.key(seed), lanes=lanes, steps=steps, batch=size, scale=scale, dtype=dtype,
                limits=limits,  # type: ignore[arg-type]
                progress=_once_done(advance),
            )  # fmt: skip
        storage.write_heads(folder, found, settings)
    _show(found, sets, size)
    table.where(folder, time.perf_counter() - began)


def _sets(data: str, classes: str | None, images: int | None) -> dict[str, Any]:
    """Name to training and test set."""
    from jaxsim import data as families

    if data.lower().endswith(".npz"):
        for name, value in (("classes", classes), ("images", images)):
            if value is not None:
                raise ValueError(f"--{name}: has no meaning for --data {data}")
        return {printable(Path(data).stem): families.load_split(data)}
    if data != "digits":
        raise ValueError(f"data: expected digits or a FILE.npz; got {data!r}")
    pairs = list(itertools.combinations(range(10), 2))
    if classes not in (None, "all"):
        try:
            first, second = (int(c) for c in classes.split(","))
        except ValueError as error:
            raise ValueError(f"classes: expected two digits such as 3,8, or all; got {classes!r}") from error
        pairs = [(first, second)]
    return {f"{a},{b}": families.digits_split((a, b), 200 if images is None else images) for a, b in pairs}


def _batch(text: str | None, n: int) -> int | None:
    if text is None:
        return min(BATCH, n)
    if text == "full":
        return None
    try:
        return whole_number("batch", int(text))
    except ValueError as error:
        raise ValueError(f"batch: expected a whole number from 1 to n = {n}, or full; got {text!r}") from error


def _once_done(advance):
    """`heads` says what it begins; the bar counts what is done, and names each pair once."""
    begun: list[str] = []

    def progress(name: str, rule: Any) -> None:
        advance(min(len(begun), 1), None if name in begun else name)
        begun.append(name)

    return progress


def _show(found: "Heads", sets: dict[str, Any], batch: int | None) -> None:
    """Rules as columns, last recorded step: means over pairs with 95% intervals, or over starts of one pair."""
    from jaxsim.results.heads import FEWEST

    console, several = Console(), len(found.pairs) > 1
    train, test = next(iter(sets.values()))
    n, T, d = train.shape
    held = "" if test is None else f", {_range(len(t.labels) for _, t in sets.values())} to test"
    what = f"{len(found.pairs)} pairs" if several else marked(found.pairs[0])
    of = "all sequences" if batch is None else f"batches of {batch}"
    lanes = found.saturated.shape[2]
    console.print(
        f"{what}: n={n}, T={T}, d={d}{held}; {lanes} starts, {found.steps[-1]:,} steps on {of}",
        style="bold", highlight=False, soft_wrap=True,
    )  # fmt: skip
    grid = Table()
    grid.add_column("")
    for label in found.labels:
        grid.add_column(label, justify="right")
    for curve, title, factor, decimals in SHOWN:
        if curve in found.curves:
            mean, low, high = (factor * part[:, -1] for part in found.interval(curve))
            if not found.has_interval:
                low = high = mean * math.nan
            bounds = zip(mean, low, high, strict=True)
            grid.add_row(title, *(_interval(decimals, *each) for each in bounds))
        if curve == "test_accuracy" and curve in found.curves and several:
            grid.add_row("lowest pair %", *_lowest(found))
    grid.add_row("saturated %", *(f"{100 * share:.0f}" for share in found.saturated.mean((0, 2))))
    grid.add_row("time", *(f"{seconds:.1f} s" for seconds in found.seconds.sum(0)))
    console.print(grid)
    console.print(
        ("Over pairs, of means over starts" if several else "Over starts")
        + ": mean at the last step"
        + (" and its 95% interval.\n" if found.has_interval else f"; no intervals, which need {FEWEST} pairs.\n")
        + "accuracy: share of sequences with y f(x) > 0. error: distance of W/‖W‖ from the\n"
        "att-SVM of the tokens that attention prefers, and of u/‖u‖ from the hard-margin\n"
        "classifier of these tokens. attention: largest weight, mean over sequences.",
        style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip


def _range(numbers: Iterable[int]) -> str:
    few = sorted(set(numbers))
    return f"{few[0]}" if len(few) == 1 else f"{few[0]} to {few[-1]}"


def _interval(decimals: int, mean: float, *bounds: float) -> str:
    """The mean, and its interval on a line of its own."""
    if math.isnan(mean):
        return "-"
    text = f"{mean:.{decimals}f}"
    low, high = sorted(bounds)
    return text if math.isnan(low) else f"{text}\n{low:.{decimals}f}–{high:.{decimals}f}"


def _lowest(found: "Heads") -> list[str]:
    accuracy = found.curves["test_accuracy"][..., -1].mean(2)
    return [f"{100 * accuracy[p, k]:.1f} ({found.pairs[p]})" for k, p in enumerate(accuracy.argmin(0))]
