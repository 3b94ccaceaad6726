"""Where runs ended, and in which geometry: selections with their norms, rule × geometry."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from jaxsim._text import drawn
from jaxsim.analysis import VERDICTS
from jaxsim.plot.basins import tokens_of
from jaxsim.plot.style import VERDICT_COLOURS, axes
from jaxsim.results import Run
from jaxsim.simulation.geometries import Geometry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 12


def selections(run: Run, ax: "Axes | None" = None, most: int = MOST) -> "Axes":
    """Which solutions catch how many runs: a bar per final selection, the largest first, with the norm of its limit.

    Bars are coloured by the verdicts of their lanes; selections beyond `most` are one last bar.

    Args:
        run: the run.
        ax: where.
        most: selections drawn one by one.
    """
    ax = axes(ax)
    count = np.zeros((len(run.selections), len(VERDICTS)), int)
    for v, verdict in enumerate(VERDICTS):
        count[:, v] = np.bincount(run.selection_number[run.verdict == verdict], minlength=len(count))
    order = np.argsort(-count.sum(1), kind="stable")
    order = order[count.sum(1)[order] > 0]
    rows = [count[k] for k in order[:most]]
    labels = [f"{tokens_of(run.selections[k])}   {_norm(run, k)}" for k in order[:most]]
    if len(order) > most:
        rows.append(count[order[most:]].sum(0))
        labels.append(f"{len(order) - most:,} others")
    table, left = np.array(rows), np.zeros(len(rows))
    for v, verdict in enumerate(VERDICTS):
        if table[:, v].any():
            ax.barh(range(len(rows)), table[:, v], left=left, color=VERDICT_COLOURS[verdict], label=verdict, height=0.7)
        left += table[:, v]
    for y, total in enumerate(left):
        ax.text(total, y, f" {int(total):,}", va="center", fontsize=8)
    ax.set_yticks(range(len(rows)), labels, fontsize=8, family="monospace")
    ax.invert_yaxis()
    ax.set_title(f"{drawn(run.label)}: selected tokens and ‖W^α‖", fontsize=10, loc="left")
    ax.set(xlabel="runs", xlim=(0, 1.12 * left.max()))
    ax.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)
    return ax


def _norm(run: Run, k: int) -> str:
    value = run.limit_norm[k]
    return f"{value:.3g}" if np.isfinite(value) else str(run.limit_status[k])


def geometry(
    found: Geometry, ax: "Axes | None" = None, what: Literal["margin_ratio", "correlation"] = "margin_ratio"
) -> "Axes":
    """Rule × geometry: how near each rule's W is to the max-margin solution of every norm; the nearest is framed.

    Args:
        found: from `jaxsim.geometry`.
        ax: where.
        what: "margin_ratio", 1 for a max-margin solution, or "correlation".
    """
    from matplotlib.patches import Rectangle

    ax = axes(ax)
    values = getattr(found, what)
    shown = np.ma.masked_invalid(values)
    ax.imshow(shown, cmap="Blues", vmin=min(0.0, shown.min()) if shown.count() else 0.0, vmax=1.0, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.2f}" if np.isfinite(value) else "–"
        ax.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if value > 0.6 else "black")
    for row in np.flatnonzero(np.isfinite(values).any(1)):
        best = np.nanargmax(values[row])
        ax.add_patch(Rectangle((best - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=2))
    settled = zip(found.labels, found.saturated, strict=True)
    names = [drawn(r) + ("" if s == found.lanes else f" ({s} of {found.lanes} saturated)") for r, s in settled]
    ax.set_yticks(range(len(found.rules)), names)
    ax.set_xticks(range(len(found.norms)), found.norms, rotation=30, ha="right")
    title = {"margin_ratio": "margin of W over the best margin in each norm", "correlation": "correlation with W^α"}
    ax.set_title(title[what] + ("" if shown.count() else ": no lane has saturated"), fontsize=10, loc="left")
    return ax
