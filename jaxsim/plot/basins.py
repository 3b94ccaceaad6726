"""Figures of initialisation space: maps, shells, continuations, comparisons."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim import basins
from jaxsim._text import drawn
from jaxsim.analysis import VERDICTS
from jaxsim.analysis.verdict import SETTLED
from jaxsim.plot.style import VERDICT_COLOURS, axes, colour, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of the largest local basins of a figure, in order.
LOCAL_COLOURS = ("#DDCC77", "#88CCEE", "#AA4499", "#999933", "#332288", "#44AA99", "#882255", "#6699CC")
Selection = tuple[int, ...]
NAMES = {"W_mm": "$W_{mm}$", "W^α": "$W^\\alpha$"}
OTHER_LOCAL = "#EEE8C8"


def selection_colours(found: Sequence[basins.BasinMap], settled: bool = True) -> dict[Selection, str]:
    """A colour for every selection of some maps but the best, the same in all of them: the largest come first.

    Args:
        found: the maps.
        settled: of local pixels alone; otherwise of all.
    """
    pixels: dict[Selection, int] = {}
    for one in found:
        counted = one.verdict == VERDICTS.index("local") if settled else np.full(one.verdict.shape, True)
        for number, count in zip(*np.unique(one.selection_number[counted], return_counts=True), strict=True):
            key = tuple(one.selections[number].tolist())
            pixels[key] = pixels.get(key, 0) + int(count)
    pixels.pop(tuple(found[0].problem.optimal.tolist()), None)
    largest = sorted(pixels, key=lambda key: (-pixels[key], key))
    return dict(zip(largest, LOCAL_COLOURS, strict=False))


def basin_map(
    found: basins.BasinMap, ax: "Axes | None" = None, colours: Mapping[Selection, str] | None = None
) -> "Axes":
    """The verdict of every pixel: green where global, one colour per local selection.

    Args:
        found: the map.
        ax: where to draw.
        colours: those of several maps, from `selection_colours`; by default of this map alone.
    """
    ax = axes(ax)
    legend = _draw_labels(found, ax, selection_colours([found]) if colours is None else colours)
    _frame(found, ax)
    ax.legend(handles=legend, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9, borderaxespad=0)
    return ax


def maps(found: Sequence[basins.BasinMap], title: str) -> "Figure":
    """One row per rule: its basins and how soon they are settled; of two rules also where they differ.

    A selection has one colour, and a step one shade, in all of them.
    """
    rows = len(found) + (len(found) == 2)
    left, right, bottom, top = found[0].window
    height = 4.4 * min(max((top - bottom) / (right - left), 0.2), 2.0)
    figure = new_figure(figsize=(13, 0.4 + (0.4 + height) * rows), layout="compressed")
    grid = figure.subplots(rows, 2, squeeze=False)
    colours, limits = selection_colours(found), settling(found)
    for row, one in zip(grid, found, strict=False):
        basin_map(one, row[0], colours).set_title(f"{drawn(title)}; {_short(one.settings)}", fontsize=11, loc="left")
        time_map(one, row[1], limits)
    if len(found) == 2:
        disagreement(found[0], found[1], grid[2, 0], colours)
        grid[2, 1].remove()
    return figure


def settling(found: Sequence[basins.BasinMap]) -> tuple[float, float]:
    """The first and the last recorded step from which attention stays saturated, of any pixel of some maps."""
    times = np.concatenate([np.maximum(one.time[one.time >= 0], 1) for one in found])
    return (float(times.min()), max(2.0, float(times.max()))) if len(times) else (1.0, 2.0)


def time_map(found: basins.BasinMap, ax: "Axes | None" = None, limits: tuple[float, float] | None = None) -> "Axes":
    """The recorded step from which attention stays saturated, on a logarithmic scale; grey where it never does.

    Args:
        found: the map.
        ax: where to draw.
        limits: the ends of the scale; by default those of this map, from `settling`.
    """
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    ax = axes(ax)
    times = np.ma.masked_array(np.maximum(found.time, 1), found.time < 0)  # step 0 has no place on the scale
    shades = colormaps["viridis_r"].with_extremes(bad=VERDICT_COLOURS["unresolved"])
    if times.count() == 0:
        ax.text(0.5, 0.5, "no pixel saturated", ha="center", va="center", transform=ax.transAxes)
        _frame(found, ax)
        return ax
    norm = LogNorm(*(settling([found]) if limits is None else limits))
    image = ax.imshow(times, origin="lower", extent=_extent(found), aspect="equal", cmap=shades, norm=norm,
                      interpolation="nearest")  # fmt: skip
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)
    bar.set_label("step at which attention settled")
    _frame(found, ax)
    return ax


def disagreement(
    first: basins.BasinMap,
    second: basins.BasinMap,
    ax: "Axes | None" = None,
    colours: Mapping[Selection, str] | None = None,
) -> "Axes":
    """Where two rules give different verdicts to one start; faint colours are the first rule's map.

    Args:
        first: the map of one rule.
        second: that of the other.
        ax: where to draw.
        colours: those of both maps, from `selection_colours`.
    """
    ax = axes(ax)
    apart, elsewhere = (basins.disagreement(first, second, selections) for selections in (False, True))
    _draw_labels(first, ax, selection_colours([first, second]) if colours is None else colours, alpha=0.25)
    shown = np.zeros((*apart.shape, 4))
    shown[apart] = (0.1, 0.1, 0.1, 1.0)
    ax.imshow(shown, origin="lower", extent=_extent(first), aspect="equal", interpolation="nearest")
    _frame(first, ax)
    pair = f"{_short(first.settings)} and {_short(second.settings)}"
    ax.set_title(
        f"{pair}: other verdict on {apart.mean():.1%} of the window (black),\n"
        f"other verdict or other selection on {elsewhere.mean():.1%}", fontsize=10, loc="left"
    )  # fmt: skip
    return ax


def shells(several: Sequence[basins.Shells], ax: "Axes | None" = None, verdict: str = "global") -> "Axes":
    """P(verdict | ‖W_0‖ = R) against R, with interval bands: one curve per rule."""
    ax = axes(ax)
    for found in several:
        parts = found.fractions(verdict)
        shade = colour(found.settings["rule_name"])
        low, value, high = (np.array([getattr(p, name) for p in parts]) for name in ("low", "value", "high"))
        order = np.argsort(found.radii)
        ax.fill_between(found.radii[order], low[order], high[order], color=shade, alpha=0.2, linewidth=0)
        ax.plot(found.radii[order], value[order], color=shade, marker="o", markersize=3, label=_short(found.settings))
    ax.set(xscale="log", xlabel="‖W₀‖", ylabel=f"P({verdict})", ylim=(-0.02, 1.02))
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(frameon=False, fontsize=9)
    return ax


def comparison(found: basins.Comparison, ax: "Axes | None" = None) -> "Axes":
    """The contingency table of two rules' verdicts on the same starts; verdicts that never occur are left out."""
    ax = axes(ax)
    seen = np.flatnonzero(found.table.any(0) | found.table.any(1))
    table = found.table[np.ix_(seen, seen)]
    names = [VERDICTS[k] for k in seen]
    ax.imshow(np.log1p(table), cmap="Blues")
    dark = np.log1p(table) > 0.6 * np.log1p(table.max())
    for (row, column), count in np.ndenumerate(table):
        ax.text(column, row, f"{count:,}", ha="center", va="center", color="white" if dark[row, column] else "black")
    ax.set_xticks(range(len(names)), names, rotation=20)
    ax.set_yticks(range(len(names)), names)
    labels = found.settings.get("labels", found.rules)
    ax.set(xlabel=drawn(labels[1]), ylabel=drawn(labels[0]))
    value, low, high, level = (100 * v for v in found.paired)
    ax.set_title(f"{found.verdict}: {value:+.2f} points, {level:.0f}% interval [{low:+.2f}, {high:+.2f}]",
                 fontsize=10, loc="left")  # fmt: skip
    return ax


def robustness(found: basins.Perturbations, ax: "Axes | None" = None) -> "Axes":
    """The share of starts whose fate changes within a perturbation of a given size."""
    ax = axes(ax)
    for is_global, name, style in ((True, "starts that go global", "-"), (False, "starts that do not", "--")):
        sizes = np.sort(found.size[found.optimal == is_global])
        if len(sizes):
            share = np.arange(1, len(sizes) + 1) / len(sizes)
            sound = np.isfinite(sizes)
            ax.step(
                sizes[sound], share[sound], where="post", linestyle=style, color="black", label=f"{name} ({len(sizes)})"
            )
    ax.set(xscale="log", xlabel="smallest decisive ‖δ‖ found", ylabel="share of starts", ylim=(0, 1.02))
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.legend(frameon=False, fontsize=9)
    return ax


def _draw_labels(found: basins.BasinMap, ax: "Axes", colours: Mapping[Selection, str], alpha: float = 1.0) -> list[Any]:
    """Colour the pixels and give the legend."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    picture = np.zeros((*found.verdict.shape, 3))
    legend = []

    def paint(where: np.ndarray, shade: str, name: str) -> None:
        if where.any():
            picture[where] = to_rgb(shade)
            legend.append(Patch(color=shade, label=f"{name}  {where.mean():.1%}"))

    local = found.verdict == VERDICTS.index("local")
    paint(found.verdict == VERDICTS.index("global"), VERDICT_COLOURS["global"], "global")
    numbers, counts = np.unique(found.selection_number[local], return_counts=True)
    others = []
    for number in numbers[np.argsort(-counts)]:
        shade = colours.get(tuple(found.selections[number].tolist()))
        if shade is None:
            others.append(number)
        else:
            paint(local & (found.selection_number == number), shade, f"local {tokens_of(found.selections[number])}")
    paint(local & np.isin(found.selection_number, others), OTHER_LOCAL, "other local")
    for k, name in enumerate(VERDICTS):
        if name not in SETTLED:
            paint(found.verdict == k, VERDICT_COLOURS[name], name)
    ax.imshow(picture, origin="lower", extent=_extent(found), aspect="equal", interpolation="nearest", alpha=alpha)
    return legend


def _frame(found: basins.BasinMap, ax: "Axes") -> None:
    """Axis labels, limits, and the directions that the plane was made of."""
    reach = 0.9 * max(abs(v) for v in found.window)
    for name, (a, b) in zip(found.names, found.directions, strict=True):
        if name != "random":
            ax.annotate(
                "", (reach * a, reach * b), (0, 0), arrowprops={"arrowstyle": "->", "color": "black", "lw": 1.2}
            )
            ax.annotate(
                NAMES.get(name) or drawn(name), (reach * a, reach * b), (0, 4), textcoords="offset points", ha="center"
            )
    low, high, bottom, top = found.window
    names = [NAMES.get(name) or drawn(name) for name in found.names]
    first, second = (("random direction", "random direction") if found.names[0] == "random" else (
        f"along {names[0]}", f"along the rest of {names[1]}"))  # fmt: skip
    ax.set(xlim=(low, high), ylim=(bottom, top), xlabel=first, ylabel=second)


def _extent(found: basins.BasinMap) -> tuple[float, float, float, float]:
    half_a, half_b = (found.a[1] - found.a[0]) / 2, (found.b[1] - found.b[0]) / 2
    low, high, bottom, top = found.window
    return low - half_a, high + half_a, bottom - half_b, top + half_b


def tokens_of(selection: np.ndarray) -> str:
    """A selection in few words: its tokens."""
    text = " ".join(str(t) for t in selection if t >= 0)
    return text if len(text) <= 24 else text[:21] + "…"


def _short(settings: dict[str, Any]) -> str:
    return drawn(settings.get("label", settings["rule"]))
