"""What figures share: one colour for a rule and for a verdict, the lines of several runs, the share of a band."""

import functools
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colour-blind safe palette; a rule has one colour everywhere.
RULE_COLOURS = {"gd": "#0072B2", "ngd": "#D55E00", "polyak": "#009E73"}
LINES = ("-", "--", ":", "-.")  # of the runs of one rule with several step sizes
OTHER_COLOURS = ("#CC79A7", "#56B4E9", "#E69F00", "#000000")
VERDICT_COLOURS = {
    "global": "#117733",
    "local": "#DDCC77",
    "transient": "#CC6677",
    "unresolved": "#DDDDDD",
    "infeasible": "#999999",
    "nonfinite": "#222222",
}
BAND = (5, 95)  # percentiles of lanes between which a band is drawn


def colour(rule_name: str) -> str:
    """The colour of a rule, the same in every figure."""
    return RULE_COLOURS.get(rule_name, OTHER_COLOURS[sum(map(ord, rule_name)) % len(OTHER_COLOURS)])


def axes(ax: "Axes | None") -> "Axes":
    """The axes given, or new ones."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def new_figure(**how: Any) -> "Figure":
    """A figure that shows itself as the value of a cell of a notebook; a bare one of matplotlib does not."""
    return _shown()(**how)


@functools.cache
def _shown() -> type:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class Shown(Figure):
        """A figure with a picture of itself."""

        def _repr_png_(self) -> bytes:
            stream = io.BytesIO()
            FigureCanvasAgg(self).print_png(stream)
            return stream.getvalue()

    return Shown
