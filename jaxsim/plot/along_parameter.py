"""Figures of continuations: shares of attractors along a parameter, and how stable each is."""

from typing import TYPE_CHECKING

import numpy as np

from jaxsim import basins
from jaxsim._text import drawn
from jaxsim.analysis import wilson
from jaxsim.plot.basins import LOCAL_COLOURS, OTHER_LOCAL, tokens_of
from jaxsim.plot.style import VERDICT_COLOURS, axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def continuation(found: basins.Continuation, ax: "Axes | None" = None) -> "Axes":
    """Stacked shares of the attractors along the parameter; bands are intervals of all that lies below a border."""
    ax = axes(ax)
    order = np.argsort(found.along, kind="stable")
    x = found.along[order]
    shares = 100 * found.counts[order] / found.lanes
    is_global = (found.is_global & (found.counts > 0))[order]
    layers = [("global", VERDICT_COLOURS["global"], np.where(is_global, shares, 0).sum(1))]
    local = np.where(is_global, 0, shares)
    for k, a in enumerate(np.flatnonzero(local.any(0))):
        shade = LOCAL_COLOURS[k] if k < len(LOCAL_COLOURS) else OTHER_LOCAL
        label = f"local {tokens_of(found.attractors[a])}" if k < len(LOCAL_COLOURS) else "_other"
        layers.append((label, shade, local[:, a]))
    settled = sum(layer[2] for layer in layers)
    layers.append(("not settled", VERDICT_COLOURS["unresolved"], 100 - settled))
    ax.stackplot(x, [layer[2] for layer in layers], colors=[layer[1] for layer in layers],
                 labels=[layer[0] for layer in layers], linewidth=0)  # fmt: skip
    below = np.cumsum([layer[2] for layer in layers[:-1]], axis=0) * found.lanes / 100
    for k, counts in enumerate(np.rint(below).astype(int)):
        parts = [wilson(int(count), found.lanes) for count in counts]
        low, high = (100 * np.array([getattr(p, name) for p in parts]) for name in ("low", "high"))
        name = "_again" if k else "95% interval of what lies below"
        ax.fill_between(x, low, high, layers[k][2] > 0, color="black", alpha=0.35, linewidth=0, label=name)
    seen = set()
    change = np.diff(found.exists.astype(int), axis=0)
    for v, a in np.argwhere(change != 0):
        value, what = found.along[v + 1], "appears" if change[v, a] > 0 else "vanishes"
        first = what not in seen
        seen.add(what)
        ax.plot(value, 102, marker="^" if what == "appears" else "v", color="black", clip_on=False, markersize=5,
                linestyle="none", label=f"an attractor {what}" if first else "_again")  # fmt: skip
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9)
    ax.set(ylabel="share of lanes (%)", ylim=(0, 100))
    _along(found, ax)
    return ax


def stability(found: basins.Continuation, steps: float | None = None, attractors: int = 4) -> "Figure":
    """How stable the attractors with most lanes are along the parameter: a panel for each quantifier, with intervals.

    Args:
        found: the continuation.
        steps: of the finite-time basin stability; by default the median of the steps at which lanes settled.
        attractors: how many are drawn.
    """
    done = np.zeros(0) if found.settled is None else found.settled[found.settled >= 0]
    by = (max(1, int(np.median(done))) if done.size else found.settings["steps"]) if steps is None else steps
    figure = new_figure(figsize=(11, 5.6), layout="constrained")
    grid = figure.subplots(2, 3).ravel()
    order, handles = np.argsort(found.along, kind="stable"), {}
    for ax, name in zip(grid, basins.QUANTIFIERS, strict=False):
        finite = name == "finite-time basin stability"
        numbers = found.quantifier(name, steps=by if finite else None)
        for k in range(min(attractors, len(found.attractors))):
            x, value, low, high = (
                values[order]
                for values in (found.along, *(part[:, k] for part in (numbers.value, numbers.low, numbers.high)))
            )
            known = np.isfinite(value)
            always = found.is_global[:, k] | (found.counts[:, k] == 0)
            tone = VERDICT_COLOURS["global"] if always.all() else LOCAL_COLOURS[k]
            ax.fill_between(x[known], low[known], high[known], color=tone, alpha=0.25, linewidth=0)
            line = ax.plot(x[known], value[known], color=tone, marker="os^Dv"[k % 5], markersize=4, linewidth=1.5)[0]
            handles.setdefault(tokens_of(found.attractors[k]), line)
        ax.set_title(f"{name}, by step {by:g}" if finite else name, fontsize=10, loc="left")
        ax.set(ylabel=basins.QUANTIFIERS[name])
        if basins.QUANTIFIERS[name] == "share of starts":
            ax.set_ylim(-0.02, 1.02)
        else:
            ax.set_ylim(0, None)
        if not any(np.size(line.get_ydata()) for line in ax.lines):
            told = "no start settled elsewhere" if name == "critical shock" else "nothing settled"
            ax.text(0.5, 0.5, told, transform=ax.transAxes, ha="center", color="#555555")
        _along(found, ax)
        ax.grid(alpha=0.25, linewidth=0.6)
    grid[-1].set_axis_off()
    grid[-1].legend(handles.values(), handles, title="attractor: its selected tokens", loc="center left", frameon=False)
    return figure


def _along(found: basins.Continuation, ax: "Axes") -> None:
    """The axis of the parameter; along a curve through several, each point has its numbers."""
    ax.set(xlabel=drawn(found.name), xlim=(found.along.min(), found.along.max()))
    if found.values.ndim > 1:
        ax.set_xticks(found.along, [", ".join(f"{v:g}" for v in point) for point in found.values], fontsize=8)
