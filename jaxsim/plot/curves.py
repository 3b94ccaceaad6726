"""Recorded quantities against steps: medians with quantile bands, and the slopes that theory predicts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsim._text import drawn
from jaxsim.plot.runs import attention_gap, band, direction_error, same_rule_before, several
from jaxsim.plot.style import LINES, axes, new_figure
from jaxsim.results import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# How fast each quantity grows or falls in a run that keeps its selection, up to a factor: NGD and Polyak take steps
# of about constant length, GD's norm grows like log t. Convention of this project; the tests measure it for NGD.
LINEAR = {"norm": ("t", lambda t: t), "error": ("1/t", lambda t: 1 / t), "digits": ("t", lambda t: t)}
LOGARITHMIC = {
    "norm": ("log t", np.log),
    "error": ("1/log t", lambda t: 1 / np.log(t)),
    "digits": ("log t", np.log),
}
GUIDES = {"ngd": LINEAR, "polyak": LINEAR, "gd": LOGARITHMIC}
SHORTEST = 100  # steps: before that there is no last decade worth a slope


def norm(run: Run, ax: "Axes | None" = None, line: str = "-") -> "Axes":
    """‖W‖ against steps: median and 5–95% band over lanes, log-log."""
    ax = band(run, run.norm, axes(ax), line)
    ax.set(xscale="log", ylabel="‖W‖")
    if ax.lines:
        ax.set_yscale("log")
    return ax


def loss_gap(run: Run, ax: "Axes | None" = None, line: str = "-") -> "Axes":
    """-log10(L - L*), the digits of the loss, against steps: median and 5–95% band; linear below 1."""
    ax = band(run, -run.log10_gap, axes(ax), line)
    ax.set(xscale="log", ylabel="$-\\log_{10}(L-L^*)$")
    if ax.lines:
        ax.set_yscale("symlog", linthresh=1)
    return ax


def trajectories(runs: Run | Sequence[Run]) -> "Figure":
    """Direction error, attention gap, norm and loss gap of several runs; dotted: their predicted slopes."""
    runs = several(runs)
    figure = new_figure(figsize=(10, 7), layout="constrained")
    panels = {"error": direction_error, "digits": attention_gap, "norm": norm, "loss digits": loss_gap}
    grid = figure.subplots(2, 2).ravel()
    for ax, (quantity, draw) in zip(grid, panels.items(), strict=True):
        for k, run in enumerate(runs):
            draw(run, ax, LINES[same_rule_before(runs, k) % len(LINES)])
            guide(run, quantity, ax)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False)
    figure.suptitle("medians over runs, bands 5–95%; dotted: predicted growth", fontsize=10, x=0.01, ha="left")
    return figure


def guide(run: Run, quantity: str, ax: "Axes") -> None:
    """Beside the last curve of the Axes, over its last decade, the growth that theory predicts for the rule.

    Args:
        run: whose curve was drawn last.
        quantity: "norm", "error", "digits" of the attention gap, or "loss digits", whose growth is predicted only where
            most lanes end global: elsewhere the loss stays above its infimum.
        ax: where.
    """
    if quantity == "loss digits" and np.mean(run.verdict == "global") < 0.5:
        return
    law = GUIDES.get(run.settings["rule_name"], {}).get(quantity.removeprefix("loss "))
    if law is None or run.steps[-1] < SHORTEST or not ax.lines or ax.lines[-1].get_label() != drawn(run.label):
        return
    steps, values = (np.asarray(part, float) for part in ax.lines[-1].get_data())
    t = steps[steps >= steps[-1] / 10]
    name, growth = law
    if values[-1] <= 0:
        return
    predicted = (0.7 if quantity == "error" else 1.4) * values[-1] * growth(t) / growth(t[-1])
    ax.plot(t, predicted, color=ax.lines[-1].get_color(), linestyle=":", linewidth=1.2, label="_predicted")
    ax.annotate(f"∝ {name}", (t[0], predicted[0]), fontsize=8, ha="right", va="center", color=ax.lines[-1].get_color())
