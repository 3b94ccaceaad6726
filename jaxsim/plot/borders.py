"""Maps side by side along a number, and the dimension of their borders against it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsim import basins
from jaxsim._text import drawn
from jaxsim.analysis.verdict import is_settled
from jaxsim.plot.basins import LOCAL_COLOURS, OTHER_LOCAL, selection_colours
from jaxsim.plot.style import VERDICT_COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
PALE = 0.6  # share of white over pixels that have not settled on what they select
CURVES = (("any selection", "#222222", "o"), ("the global basin", VERDICT_COLOURS["global"], "s"))


def borders(found: Sequence[basins.BasinMap], against: Sequence[float], name: str = "step size") -> "Figure":
    """A map for every value of a number, by what each start selects, and the dimension of the borders against it.

    Pixels whose attention has not saturated, or has on a selection that is predicted to leave, are paler. Dimensions
    are 2 - α of `jaxsim.basins.uncertainty_exponent`, with 95% intervals; hollow where there is none, and left out
    where too few pixels lie on a border.

    Args:
        found: the maps, of one window.
        against: the number that belongs to each, above 0.
        name: what the number is.

    Raises:
        ValueError: where there is not one number for each map.
    """
    if len(found) != len(against) or not found or min(against) <= 0:
        raise ValueError(f"against: expected a number above 0 for each of {len(found)} maps; got {list(against)!r}")
    from matplotlib.patches import Patch

    rows, columns = -(-len(found) // COLUMNS), min(COLUMNS, len(found))
    figure = new_figure(figsize=(3.1 * columns, 3.4 * rows + 3.2), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[3.2] * rows + [3.0])
    shades = selection_colours(found, settled=False) | {
        tuple(found[0].problem.optimal.tolist()): VERDICT_COLOURS["global"]
    }
    for k, (one, value) in enumerate(zip(found, against, strict=True)):
        ax = figure.add_subplot(grid[k // columns, k % columns])
        _paint(one, shades, ax)
        ax.set_title(f"{value:g}: {one.shares()['global']:.1%} global", fontsize=10)
        if k % columns:
            ax.set_yticklabels([])
    _dimensions(found, against, figure.add_subplot(grid[rows, :]), name)
    rule = drawn(found[0].settings.get("rule_name", "")).upper()
    figure.suptitle(f"{rule}: what each start of a plane selects, by {drawn(name)}", fontsize=12)
    entries = (
        (VERDICT_COLOURS["global"], "selects the best tokens"),
        (LOCAL_COLOURS[0], "another selection, a colour for each of the largest"),
        (OTHER_LOCAL, "any other"),
        ("#DDDDDD", "paler: not settled there, or predicted to leave"),
    )
    patches = [Patch(color=shade, label=text) for shade, text in entries]
    figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def border_dimensions(found: basins.BasinMap) -> tuple[tuple[float, float, float], ...]:
    """(D, low, high) of the borders between all selections, and of the global basin's; NaN where there are too few."""
    dimensions = []
    for labels in (found.selection_number, (found.verdict == 0).astype(int)):
        try:
            alpha = basins.uncertainty_exponent(labels)
            dimensions.append((alpha.dimension, 2 - alpha.high, 2 - alpha.low))
        except ValueError:  # says how many pixels there are, and how many there should be
            dimensions.append((np.nan, np.nan, np.nan))
    return tuple(dimensions)


def _paint(found: basins.BasinMap, shades: dict[tuple[int, ...], str], ax: "Axes") -> None:
    from matplotlib.colors import to_rgb

    palette = np.array([to_rgb(shades.get(tuple(row.tolist()), OTHER_LOCAL)) for row in found.selections])
    picture = palette[found.selection_number]
    pale = ~is_settled(found.verdict)
    picture[pale] = PALE + (1 - PALE) * picture[pale]
    ax.imshow(picture, origin="lower", extent=found.window, aspect="equal", interpolation="nearest")
    ax.tick_params(labelsize=8)


def _dimensions(found: Sequence[basins.BasinMap], against: Sequence[float], ax: "Axes", name: str) -> None:
    values = np.array([border_dimensions(one) for one in found])  # (maps, 2, 3)
    for (label, shade, marker), part in zip(CURVES, values.swapaxes(0, 1), strict=True):
        D, low, high = part.T
        sound = np.isfinite(low)
        ax.errorbar(
            np.array(against)[sound], D[sound], (D - low)[sound], color=shade, marker=marker, capsize=3, linewidth=1.2,
            label=f"border of {label}",
        )  # fmt: skip
        ax.plot(np.array(against)[~sound], D[~sound], marker, color=shade, markerfacecolor="white")
    ax.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    ends = min(against) / 1.3, max(against) * 1.3
    ax.set(xscale="log", xlabel=drawn(name), ylabel="dimension", xlim=ends, ylim=(0.85, 2.05))
    ax.set_xticks(against, [f"{value:g}" for value in against])
    ax.minorticks_off()
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(frameon=False, fontsize=9, loc="upper left")
