"""Figures of runs: verdicts, direction errors, attention."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsim._text import drawn
from jaxsim.analysis import VERDICTS
from jaxsim.plot.style import BAND, LINES, VERDICT_COLOURS, axes, colour, new_figure
from jaxsim.problem import Problem
from jaxsim.results import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEQUENCE_COLOURS = ("#56B4E9", "#F0E442", "#999999", "#CC79A7")


def direction_error(run: Run, ax: "Axes | None" = None, line: str = "-") -> "Axes":
    """Direction error ‖W/‖W‖ - W^α/‖W^α‖‖ against steps: median and 5–95% band over lanes, log-log."""
    ax = band(run, run.direction_error, axes(ax), line)
    ax.set(xscale="log", ylabel="direction error")
    if ax.lines:
        ax.set_yscale("log")
    return ax


def attention_gap(run: Run, ax: "Axes | None" = None, line: str = "-") -> "Axes":
    """-log10(1 - φ), the number of nines in the attention map, against steps: median and 5–95% band."""
    ax = band(run, -run.log10_attention_gap, axes(ax), line)
    ax.set(xscale="log", ylabel="$-\\log_{10}(1-\\varphi)$")
    if ax.lines:
        ax.set_yscale("symlog", linthresh=1)
        ax.set_ylim(0, None, auto=True)
    return ax


def several(runs: Run | Sequence[Run]) -> list[Run]:
    """Runs to be drawn together; one is as good as several."""
    found = [runs] if isinstance(runs, Run) else list(runs)
    for run in found:
        if not isinstance(run, Run):
            raise ValueError(f"runs: expected one jaxsim.Run or several; got a {type(run).__name__} in place of one")
    return found


def verdict_bars(runs: Run | Sequence[Run], ax: "Axes | None" = None) -> "Axes":
    """One stacked bar per run: the share of lanes with each verdict, large shares printed."""
    runs = several(runs)
    ax = axes(ax)
    left = np.zeros(len(runs))
    for verdict in VERDICTS:
        share = np.array([100 * np.mean(run.verdict == verdict) for run in runs])
        if not share.any():
            continue
        bars = ax.barh(range(len(runs)), share, left=left, color=VERDICT_COLOURS[verdict], label=verdict, height=0.7)
        dark = verdict in ("global", "nonfinite")
        texts = [f"{s:.0f}%" if s >= 8 else "" for s in share]
        ax.bar_label(bars, texts, label_type="center", color="white" if dark else "black", fontsize=9)
        left += share
    ax.set_yticks(range(len(runs)), [drawn(run.label) for run in runs])
    ax.invert_yaxis()
    ax.set(xlim=(0, 100), xlabel="share of lanes (%)")
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=9, handlelength=1)
    return ax


def token_plane(
    problem: Problem,
    ax: "Axes | None" = None,
    paths: Sequence[tuple[np.ndarray, str, str]] = (),
    rays: Sequence[tuple[np.ndarray, str, str]] = (),
) -> "Axes":
    """The first two coordinates of all tokens, stars for the optimal ones, with paths and directions from the origin.

    Args:
        problem: the data; a colour for each sequence.
        ax: where to draw.
        paths: (points (R, 2), colour, label) for each line.
        rays: (direction (2,), colour, label), dashed to the edge of what is shown.
    """
    ax = axes(ax)
    ends = np.concatenate([np.zeros((1, 2)), *(points for points, *_ in paths), problem.tokens[..., :2].reshape(-1, 2)])
    reach = 2 * np.abs(ends).max()
    for i, sequence in enumerate(problem.tokens[..., :2]):
        tone = SEQUENCE_COLOURS[i % len(SEQUENCE_COLOURS)]
        best = np.arange(len(sequence)) == problem.optimal[i]
        ax.scatter(*sequence[~best].T, color=tone, s=30, edgecolors="black", linewidths=0.5, zorder=3)
        ax.scatter(*sequence[best].T, color=tone, s=130, marker="*", edgecolors="black", linewidths=0.7, zorder=4)
    for points, tone, label in paths:
        ax.plot(*points.T, color=tone, label=label or None, linewidth=1.6)
    for direction, tone, label in rays:
        end = reach * direction / np.linalg.norm(direction)
        ax.plot([0, end[0]], [0, end[1]], "--", color=tone, label=label or None, linewidth=1.2)
    low, high = ends.min(0), ends.max(0)
    margin = 0.05 * (high - low)
    ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    ax.grid(alpha=0.25, linewidth=0.6)
    return ax


def same_rule_before(runs: Sequence[Run], k: int) -> int:
    """How many runs before run k have its rule, and so its colour: it needs another line."""
    name = runs[k].settings["rule_name"]
    return sum(run.settings["rule_name"] == name for run in runs[:k])


def overview(groups: Mapping[str, Sequence[Run]]) -> "Figure":
    """One row per problem: verdicts, direction error, attention gap, a colour per rule."""
    figure = new_figure(figsize=(12, 0.6 + 3.0 * len(groups)), layout="constrained")
    grid = figure.subplots(len(groups), 3, squeeze=False, width_ratios=(1.15, 1, 1))
    shown, lines = {}, {}
    for row, (title, runs) in zip(grid, groups.items(), strict=True):
        verdict_bars(runs, row[0])
        shown |= dict(zip(*row[0].get_legend_handles_labels()[::-1], strict=True))
        row[0].get_legend().remove()
        for k, run in enumerate(runs):
            line = LINES[same_rule_before(runs, k) % len(LINES)]
            direction_error(run, row[1], line)
            attention_gap(run, row[2], line)
        _guide(runs, row[1])
        lines |= dict(zip(*row[2].get_legend_handles_labels()[::-1], strict=True))
        row[0].set_title(f"{drawn(title)}: {runs[0].lanes:,} starts", fontsize=11, loc="left")
        row[1].set_title("all lanes, each to its own limit: median, 5–95%", fontsize=9, loc="left")
        row[2].set_title("digits of saturation (linear below 1)", fontsize=9, loc="left")
    ordered = [name for name in VERDICTS if name in shown]
    figure.legend([shown[name] for name in ordered], ordered, loc="outside lower left", ncols=6, frameon=False)
    if lines:
        figure.legend(list(lines.values()), list(lines), loc="outside lower right", ncols=6, frameon=False)
    return figure


def band(run: Run, values: np.ndarray, ax: "Axes", line: str) -> "Axes":
    """Median and band over the lanes that are finite at every step past 0; words where there are none."""
    after = run.steps > 0
    chosen = values[run.finite][:, after]
    chosen = chosen[np.isfinite(chosen).all(1)]
    ax.set_xlabel("step")
    ax.grid(alpha=0.25, linewidth=0.6)
    if len(chosen) == 0:
        ax.text(0.5, 0.5, "no finite lanes to draw", ha="center", va="center", transform=ax.transAxes)
        return ax
    name = run.settings["rule_name"]
    low, middle, high = np.percentile(chosen, (BAND[0], 50, BAND[1]), axis=0)
    ax.fill_between(run.steps[after], low, high, color=colour(name), alpha=0.18, linewidth=0)
    ax.plot(run.steps[after], middle, color=colour(name), label=drawn(run.label), linewidth=1.8, linestyle=line)
    return ax


def _guide(runs: Sequence[Run], ax: "Axes") -> None:
    """The predicted slope of NGD, 1/t, beside the last decade of a curve that falls."""
    for run in runs:
        decade = run.steps >= max(run.steps[-1] / 10, 1)
        error = run.direction_error[np.isfinite(run.direction_error[:, 1:]).all(1)][:, decade]
        if run.settings["rule_name"] != "ngd" or len(error) == 0 or run.steps[-1] < 100:
            continue
        first, last = np.median(error[:, 0]), np.median(error[:, -1])
        if first < 3 * last:
            continue
        t = run.steps[decade][[0, -1]]
        ax.plot(t, 0.5 * last * t[-1] / t, color="black", linestyle=":", linewidth=1.2)
        ax.annotate("slope -1", (t[0], 0.5 * last * t[-1] / t[0]), fontsize=8, ha="right", va="top")
        return
