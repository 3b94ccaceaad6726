"""Figures of heads on real data: accuracies and what goes with them."""

from typing import TYPE_CHECKING

from jaxsim._text import drawn
from jaxsim.plot.style import LINES, colour, new_figure
from jaxsim.results import Heads

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heads(found: Heads) -> "Figure":
    """Accuracies, loss, norm, direction error and attention of a `Heads` against steps.

    Means, over 20 pairs or more with bands of their 95% intervals.
    """
    panels = {
        "train_accuracy": "train accuracy",
        "test_accuracy": "test accuracy",
        "log10_loss": "$-\\log_{10}$ training loss",
        "norm": "$\\|W\\|$",
        "direction_error": "direction error of W",
        "attention": "largest attention weight, mean",
    }
    panels = {name: title for name, title in panels.items() if name in found.curves}
    figure = new_figure(figsize=(12, 6.4), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    for ax in axes[len(panels) :]:
        ax.remove()
    after = found.steps > 0
    names = found.settings["rule_names"]
    for ax, (curve, title) in zip(axes, panels.items(), strict=False):
        for k, name in enumerate(names):
            middle, low, high = (part[k, after] for part in found.interval(curve))
            if curve == "log10_loss":
                middle, low, high = -middle, -high, -low
            if found.has_interval:
                ax.fill_between(found.steps[after], low, high, color=colour(name), alpha=0.18, linewidth=0)
            line = LINES[names[:k].count(name) % len(LINES)]
            ax.plot(found.steps[after], middle, line, color=colour(name), label=drawn(found.labels[k]), linewidth=1.6)
        ax.set(xscale="log", xlabel="step")
        ax.set_title(title, fontsize=10, loc="left")
        ax.grid(alpha=0.25, linewidth=0.6)
        if curve in ("log10_loss", "norm"):
            ax.set_yscale("log")
    axes[0].legend(fontsize=9, loc="lower right")
    unit = f"{len(found.pairs)} pairs" if len(found.pairs) > 1 else f"{found.saturated.shape[2]} starts"
    bands = ", bands: 95% intervals" if found.has_interval else ""
    figure.suptitle(f"means over {unit}{bands}", fontsize=10, x=0.01, ha="left")
    return figure
