"""Horizons that nobody steps to: direction error against steps and log t, and the constant of the 1/log t law."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsim._text import drawn
from jaxsim.plot.runs import direction_error, same_rule_before, several
from jaxsim.plot.style import BAND, LINES, colour, new_figure
from jaxsim.results import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def horizons(runs: Run | Sequence[Run]) -> "Figure":
    """Direction error of several runs against steps, log-log; against log t; and, of 1/log t laws, error · log t.

    Medians and 5–95% bands over lanes. On the right dotted: the median of the constants that each lane's ‖r_t‖ predicts
    at the horizon; see `jaxsim.Run.asymptote`.
    """
    runs = several(runs)
    figure = new_figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for k, run in enumerate(runs):
        line = LINES[same_rule_before(runs, k) % len(LINES)]
        direction_error(run, left, line)
        _against_log(run, run.direction_error, middle, line)
        if run.settings["predicts"] == "inverse-log":
            with np.errstate(divide="ignore", invalid="ignore"):
                _against_log(run, run.direction_error * np.log(run.steps.astype(float)), right, line)
            predicted = run.asymptote().predicted
            if np.isfinite(predicted).any():
                height = np.nanmedian(predicted)
                right.axhline(height, color=colour(run.settings["rule_name"]), linestyle=":")
                place = (0.02, height)
                right.annotate("predicted limit", place, (0, -3), ("axes fraction", "data"), "offset points", va="top")
    left.set(xlabel="step t")
    middle.set(xlabel="log t", ylabel="direction error", ylim=(0, None))
    right.set(xlabel="log t", ylabel="direction error · log t", ylim=(0, None))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False)
    return figure


def _against_log(run: Run, values: np.ndarray, ax: "Axes", line: str) -> None:
    """Median and band over the lanes that are finite at every step past 1, against log t."""
    late = run.steps > 1
    chosen = values[run.finite][:, late]
    chosen = chosen[np.isfinite(chosen).all(1)]
    ax.grid(alpha=0.25, linewidth=0.6)
    if len(chosen) == 0:
        return
    tone, log_t = colour(run.settings["rule_name"]), np.log(run.steps[late].astype(float))
    low, median, high = np.percentile(chosen, (BAND[0], 50, BAND[1]), axis=0)
    ax.fill_between(log_t, low, high, color=tone, alpha=0.18, linewidth=0)
    ax.plot(log_t, median, color=tone, linestyle=line, linewidth=1.8, label=drawn(run.label))
