"""Figures of studies: fractions against a number of the initialisation law."""

from typing import TYPE_CHECKING

import numpy as np

from jaxsim._text import drawn
from jaxsim.plot.style import LINES, colour, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

PANELS = 9


def fractions(found: "Dataset", against: str = "radius", verdict: str = "global") -> "Figure":
    """A fraction against a number of the initialisation law: a panel per problem, a line and interval band per rule.

    Args:
        found: from `jaxsim.study.reading.Reader.fractions`.
        against: the number on the horizontal axis, such as "radius"; laws without it are left out.
        verdict: whose fraction.

    Raises:
        ValueError: where no law has that number, or there are more problems than a figure has room for.
    """
    x = found.get(f"init_{against}")
    if x is None or x.dtype.kind != "f":
        names = [str(name)[5:] for name in found.coords if str(name).startswith("init_") and name != "init_kind"]
        raise ValueError(f"against: expected one of {', '.join(names) or 'no number: no law has one'}; got {against!r}")
    problems, rules = found.sizes["problem"], found.sizes["rule"]
    if problems > PANELS:
        raise ValueError(
            f"problem: expected at most {PANELS} to draw; got {problems}. Draw a part, found.isel(problem=…)"
        )
    order = np.argsort(x.values, kind="stable")[: int(np.isfinite(x.values).sum())]
    rows = -(-problems // 3)
    figure = new_figure(figsize=(4.0 * min(problems, 3), 0.8 + 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, min(problems, 3), squeeze=False, sharey=True)
    kinds = found["rule_kind"].values.tolist()
    for p, ax in enumerate(grid.ravel()):
        ax.set_visible(p < problems)
        for r in range(rules if p < problems else 0):
            part = found.sel(verdict=verdict).isel(problem=p, rule=r, init=order)
            line = LINES[kinds[:r].count(kinds[r]) % len(LINES)]
            shown, label = x.values[order], drawn(found["rule"].values[r])
            ax.fill_between(shown, part["low"], part["high"], color=colour(kinds[r]), alpha=0.18, linewidth=0)
            width = max(1.0, 3.2 - 0.9 * r)  # a line under another still shows
            ax.plot(shown, part["fraction"], line, color=colour(kinds[r]), label=label, marker=".", linewidth=width)
        ax.set(xlabel=drawn(against), ylim=(-0.02, 1.02), title=drawn(found["problem"].values[min(p, problems - 1)]))
        if np.all(x.values[order] > 0) and len(order) > 1:
            ax.set_xscale("log")
        ax.grid(alpha=0.25, linewidth=0.6)
    for row in grid:
        row[0].set_ylabel(f"fraction {verdict}")
    kind = "valid whenever one stops" if found.attrs["interval"] == "anytime" else "Wilson"
    figure.suptitle(f"bands: {found.attrs['level']:.0%} intervals, {kind}", fontsize=9)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=4, frameon=False)
    return figure
