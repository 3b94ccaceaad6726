"""Figures of studies: a fraction against one number that was swept, or two of them."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim._text import drawn
from jaxsim.plot.style import LINES, colour, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

PANELS = 9
DIMENSIONS = ("problem", "init", "rule", "step")  # the last of numbers at recorded steps
SHARE = "fraction "  # how the label of what lies between 0 and 1 begins
LETTERS, BESIDE_A_NAME = 13, 7  # of a legend in an inch; and for the line before a name
WRITTEN = 150  # pixels of a heat map up to which each has its number


@dataclasses.dataclass(frozen=True)
class _Axis:
    """A swept number: which dimension it belongs to, its name in the data set, and its values along it."""

    dimension: str
    name: str
    values: np.ndarray

    @property
    def short(self) -> str:
        """Its name without the dimension."""
        return self.name.partition("_")[2] or self.name


def fractions(found: "Dataset", against: str | Sequence[str] = "radius", verdict: str = "global") -> "Figure":
    """A fraction against one number that a study sweeps, or two of them as a heat map.

    Against one: a panel for every problem and law, a line and interval band for every rule, what differs in that number
    alone on one line. Against two: a panel for everything that differs in anything else.

    Args:
        found: from `jaxsim.study.reading.Reader.fractions`.
        against: a number of problems, laws or rules, such as "radius", "eta" or "noise", or two of them, also as
            "radius,eta"; "problem_seed" where laws have a seed too. Cells without it are left out.
        verdict: whose fraction.

    Raises:
        ValueError: where nothing has that number, or there are more panels than a figure has room for.
    """
    kind = "valid whenever one stops" if found.attrs["interval"] == "anytime" else "Wilson"
    part = found.sel(verdict=verdict).rename_vars(fraction="value")
    return _drawn(part, against, f"fraction {verdict}", f"{found.attrs['level']:.0%} intervals, {kind}")


def quantity(found: "Dataset", against: str | Sequence[str] = "radius") -> "Figure":
    """Medians, or shares of lanes, against one number that a study sweeps, or two of them, as `fractions` draws them.

    Args:
        found: from `jaxsim.study.medians` or `jaxsim.study.shares`.
        against: as for `fractions`; "step" too, of numbers at recorded steps.

    Raises:
        ValueError: as `fractions`.
    """
    kind = {"anytime": "valid whenever one stops", "wilson": "Wilson"}.get(found.attrs["interval"], "of the median")
    bands = f"{found.attrs['level']:.0%} intervals, {kind}"
    return _drawn(found, against, found.attrs["of"], bands if found["low"].notnull().any() else "none")


def _drawn(part: "Dataset", against: str | Sequence[str], label: str, bands: str) -> "Figure":
    names = [name.strip() for name in (against.split(",") if isinstance(against, str) else against)]
    if len(names) > 2:
        raise ValueError(f"against: expected one or two numbers; got {against!r}")
    swept = [_axis(part, name) for name in names]
    if len(swept) == 2 and swept[0].name == swept[1].name:
        raise ValueError(f"against: expected two numbers that differ; got {against!r}")
    figure = _lines(part, swept[0], label) if len(swept) == 1 else _heat(part, swept[0], swept[1], label)
    figure.suptitle(f"bands: {bands}" if len(swept) == 1 else label, fontsize=9)
    return figure


def _axis(found: "Dataset", name: str) -> _Axis:
    """The coordinate of a swept number; ValueError where there is none, or more than one."""
    numbers = [
        str(key) for key, value in found.coords.items()
        if str(key).partition("_")[0] in DIMENSIONS and (key == "step" or "_" in str(key)) and value.dtype.kind == "f"
    ]  # fmt: skip
    fitting = [key for key in numbers if name in (key, key.partition("_")[2])]
    if f"init_{name}" in fitting:  # a number of the laws comes first
        fitting = [f"init_{name}"]
    if len(fitting) != 1:
        known = ", ".join(fitting or [key.partition("_")[2] or key for key in numbers]) or "no number: nothing is swept"
        raise ValueError(f"against: expected one of {known}; got {name!r}")
    return _Axis(fitting[0].partition("_")[0], fitting[0], found[fitting[0]].values)


def _rest(found: "Dataset", dimension: str, swept: Sequence[_Axis]) -> list[str]:
    """What tells the choices of a dimension apart beside the swept numbers."""
    own = [axis.name for axis in swept if axis.dimension == dimension]
    if dimension == "step":
        return [f"step={_short(step)}" * (not own) for step in found[dimension].values]
    if not own:
        return [str(label) for label in found[dimension].values]
    further = [
        str(key) for key in found.coords
        if str(key).startswith(f"{dimension}_") and str(key) not in (*own, f"{dimension}_kind")
        and len(set(map(str, found[key].values))) > 1
    ]  # fmt: skip
    kinds = found[f"{dimension}_kind"].values
    columns = [(key.partition("_")[2], found[key].values) for key in further]
    return [
        ", ".join([str(kinds[k]), *(f"{name}={_short(values[k])}" for name, values in columns if _known(values[k]))])
        for k in range(len(kinds))
    ]


def _dimensions(found: "Dataset") -> tuple[str, ...]:
    return tuple(name for name in DIMENSIONS if name in found.dims)


def _known(value: Any) -> bool:
    return not (isinstance(value, float) and np.isnan(value)) and str(value) != "None"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cells(found: "Dataset", swept: Sequence[_Axis], panel: Sequence[str]) -> dict[str, list[tuple[int, ...]]]:
    """The cells of every panel that have all swept numbers, as places in the grid of problems, laws and rules."""
    dimensions = _dimensions(found)
    rests = {dimension: _rest(found, dimension, swept) for dimension in dimensions}
    places = {axis.name: dimensions.index(axis.dimension) for axis in swept}
    shape = tuple(found.sizes[dimension] for dimension in dimensions)
    kept = [
        cell for cell in np.ndindex(*shape) if all(np.isfinite(axis.values[cell[places[axis.name]]]) for axis in swept)
    ]
    telling = [
        name for name in panel if len({rests[name][cell[dimensions.index(name)]] for cell in kept}) > 1
    ] or [panel[0]]  # fmt: skip
    panels: dict[str, list[tuple[int, ...]]] = {}
    for cell in kept:
        title = "; ".join(rests[name][cell[dimensions.index(name)]] for name in telling)
        panels.setdefault(title, []).append(cell)
    if len(panels) > PANELS:
        further = "a second number, for a heat map, or " if len(swept) == 1 else ""
        raise ValueError(
            f"against: expected at most {PANELS} panels; got {len(panels)}. Give {further}a part, found.isel(problem=…)"
        )
    return panels


def _grid(panels: int, width: float) -> tuple["Figure", list["Axes"]]:
    rows, columns = -(-panels // 3), min(panels, 3)
    figure = new_figure(figsize=(width * columns, 0.8 + 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel().tolist()
    for ax in axes[panels:]:
        ax.set_visible(False)
    return figure, axes


def _lines(part: "Dataset", axis: _Axis, label: str) -> "Figure":
    panels = _cells(part, [axis], [name for name in _dimensions(part) if name != "rule"])
    rules = _rest(part, "rule", [axis])
    kinds = dict(zip(rules, part["rule_kind"].values.tolist(), strict=True))
    names, place = list(kinds), DIMENSIONS.index(axis.dimension)
    figure, grid = _grid(len(panels), 4.0)
    shown: dict[str, Any] = {}
    for k, (ax, (title, cells)) in enumerate(zip(grid, panels.items(), strict=False)):
        for r, name in enumerate(names):
            own = sorted((c for c in cells if rules[c[2]] == name), key=lambda c: axis.values[c[place]])
            if not own:
                continue
            x = np.array([axis.values[c[place]] for c in own])
            low, value, high = (np.array([part[q].values[c] for c in own]) for q in ("low", "value", "high"))
            line = LINES[[kinds[n] for n in names[:r]].count(kinds[name]) % len(LINES)]
            tone, width = colour(kinds[name]), max(1.0, 3.2 - 0.9 * r)  # a line under another still shows
            ax.fill_between(x, low, high, color=tone, alpha=0.18, linewidth=0)
            shown[name] = ax.plot(x, value, line, color=tone, label=drawn(name), marker=".", linewidth=width)[0]
        positive = axis.values[np.isfinite(axis.values)]
        ax.set(xlabel=drawn(axis.short), title=drawn(title))
        if np.all(positive > 0) and len(set(positive)) > 1:
            ax.set_xscale("log")
        if k % 3 == 0:
            ax.set_ylabel(drawn(label))
        ax.grid(alpha=0.25, linewidth=0.6)
    if label.startswith(SHARE):
        grid[0].set_ylim(-0.02, 1.02)
    elif _spreads(part["value"].values):
        grid[0].set_yscale("log")
    longest = max(map(len, shown), default=0) + BESIDE_A_NAME
    columns = int(np.clip(figure.get_figwidth() * LETTERS / longest, 1, 4))
    labels = [drawn(name) for name in shown]
    figure.legend(list(shown.values()), labels, loc="outside lower left", ncols=columns, frameon=False)
    return figure


def _spreads(values: np.ndarray) -> bool:
    """Whether numbers are above 0 and reach over more than one power of ten."""
    known = values[np.isfinite(values)]
    return bool(len(known) and known.min() > 0 and known.max() > 10 * known.min())


def _heat(part: "Dataset", across: _Axis, up: _Axis, label: str) -> "Figure":
    panels = _cells(part, [across, up], _dimensions(part))
    columns, rows = (np.unique(axis.values[np.isfinite(axis.values)]) for axis in (across, up))
    figure, grid = _grid(len(panels), 4.4)
    of_all = part["value"].values
    least, most = (0.0, 1.0) if label.startswith(SHARE) else (np.nanmin(of_all), np.nanmax(of_all))
    for ax, (title, cells) in zip(grid, panels.items(), strict=False):
        picture = np.full((len(rows), len(columns)), np.nan)
        for cell in cells:
            x, y = (axis.values[cell[DIMENSIONS.index(axis.dimension)]] for axis in (across, up))
            picture[np.searchsorted(rows, y), np.searchsorted(columns, x)] = part["value"].values[cell]
        image = ax.imshow(picture, origin="lower", aspect="auto", cmap="viridis", vmin=least, vmax=most)
        for (row, column), value in np.ndenumerate(picture):
            if picture.size <= WRITTEN and np.isfinite(value):
                tone = "black" if value - least > 0.6 * (most - least) else "white"
                written = f"{value:.2f}" if label.startswith(SHARE) else f"{value:.2g}"
                ax.text(column, row, written, ha="center", va="center", color=tone, fontsize=8)
        ax.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
        ax.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
        names = (drawn(axis.short) for axis in (across, up))
        ax.set(title=drawn(title), **dict(zip(("xlabel", "ylabel"), names, strict=True)))
        ax.title.set_fontsize(9)
    figure.colorbar(image, ax=grid, fraction=0.03)
    return figure
