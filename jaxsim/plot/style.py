"""What figures share: one colour for a rule and for a verdict, the lines of several runs, the share of a band."""

import colorsys
import functools
import io
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A rule has one colour everywhere: the commonest rules one of Okabe and Ito's colour-blind safe palette, the others one
# that no other rule has.
RULE_COLOURS = {
    "gd": "#0072B2",
    "ngd": "#D55E00",
    "polyak": "#009E73",
    "adagrad-norm": "#CC79A7",
    "heavy-ball": "#56B4E9",
    "nesterov": "#E69F00",
    "normalised-momentum": "#882255",
    "sign": "#000000",
    "adam": "#6A3D9A",
    "mirror": "#8C6D31",
    "spectral": "#117733",
    "signum": "#999933",
    "muon": "#44AA99",
    "hybrid": "#332288",
    "per-block": "#777777",
    "decayed": "#C51B7D",
    "sam": "#3B528B",
    "clipped": "#E7298A",
}
LINES = ("-", "--", ":", "-.")  # of the runs of one rule with several step sizes
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
    """The colour of a rule, the same in every figure; of a rule of one's own, one of 65,536 by its name."""
    if rule_name in RULE_COLOURS:
        return RULE_COLOURS[rule_name]
    number = zlib.crc32(rule_name.encode())
    hue, light = (number & 0xFFF) / 0x1000, 0.35 + 0.25 * (number >> 12 & 0xF) / 0xF
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, light, 0.75))
    return f"#{red:02X}{green:02X}{blue:02X}"


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
