"""One lane over time: its attention map, and everything that was recorded of it."""

from typing import TYPE_CHECKING

import numpy as np
import scipy.special
from jaxtyping import Float

from jaxsim._text import drawn
from jaxsim.plot.curves import guide, loss_gap, norm
from jaxsim.plot.runs import attention_gap, direction_error
from jaxsim.plot.style import VERDICT_COLOURS, axes, new_figure
from jaxsim.results import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 160  # tokens that can be told apart in one figure


def attention(run: Run, lane: int = 0) -> Float[np.ndarray, "R n T"]:
    """The attention map φ of a lane at every recorded step; 0 at hidden tokens.

    Raises:
        ValueError: where logits were not kept, or there is no such lane.
    """
    if run.logits is None:
        raise ValueError("run: expected one with its logits kept, simulate(..., keep=['logits'])")
    if not 0 <= lane < run.lanes:
        raise ValueError(f"lane: expected 0 to {run.lanes - 1}; got {lane}")
    return scipy.special.softmax(np.where(run.problem.visible, run.logits[lane], -np.inf).astype(float), axis=-1)


def attention_map(run: Run, lane: int = 0, ax: "Axes | None" = None) -> "Axes":
    """The attention map of a lane over time: a row per token, sequences apart; dots mark the optimal tokens.

    Args:
        run: with its logits kept.
        lane: which one.
        ax: where.

    Raises:
        ValueError: as `attention`.
    """
    ax = axes(ax)
    phi = attention(run, lane)
    _, n, T = phi.shape
    shown = max(1, min(n, MOST_ROWS // T))
    sound = np.isfinite(phi).all((1, 2)) & (run.steps > 0)
    ax.set(xlabel="step", ylabel="sequence")
    if not sound.any():
        ax.text(0.5, 0.5, "no finite logits to draw", ha="center", va="center", transform=ax.transAxes)
        return ax
    steps = run.steps[sound].astype(float)
    edges = np.append(steps, steps[-1] * (1 + 1 / len(steps)))
    rows = phi[sound][:, :shown].reshape(len(steps), shown * T)
    ax.pcolormesh(edges, np.arange(shown * T + 1), rows.T, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    best = np.where(run.problem.visible, run.problem.scores, -np.inf).argmax(1)[:shown]
    ax.plot(np.full(shown, edges[-1]), np.arange(shown) * T + best + 0.5, "o", color=VERDICT_COLOURS["global"],
            markersize=max(2.0, min(5.0, 200 / (shown * T))), clip_on=False, label="optimal token")  # fmt: skip
    for k in range(1, shown):
        ax.axhline(k * T, color="#BBBBBB", linewidth=0.8)
    few = range(0, shown, max(1, shown // 10))
    ax.set_yticks([k * T + T / 2 for k in few], [str(k) for k in few])
    ax.invert_yaxis()
    ax.set(xscale="log", xlim=(edges[0], edges[-1]))
    rest = "" if shown == n else f", first {shown} of {n} sequences"
    ax.set_title(f"attention (dark: 1; dots: optimal tokens{rest})", fontsize=9, loc="left")
    return ax


def lane(run: Run) -> "Figure":
    """Everything about a run of one lane: direction error, attention gap, norm, loss gap, logits and attention map."""
    figure = new_figure(figsize=(12, 8.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 1.3))  # type: ignore[misc]
    grid = left.subplots(3, 2)
    for ax, draw, quantity in zip(
        grid.ravel(), (direction_error, attention_gap, norm, loss_gap), ("error", "digits", "norm", "loss digits"),
        strict=False,
    ):  # fmt: skip
        draw(run, ax)
        guide(run, quantity, ax)
    gaps(run, grid[2, 0])
    _gradient(run, grid[2, 1])
    attention_map(run, 0, right.subplots())
    figure.suptitle(f"lane {run.first}, {drawn(run.label)}: {run.verdict[0]}", fontsize=11, x=0.01, ha="left")
    return figure


def gaps(run: Run, ax: "Axes | None" = None, lane: int = 0) -> "Axes":
    """The lead of the selected logit over the largest other one, a curve per sequence: W's margins as they grow."""
    ax = axes(ax)
    if run.logits is None:
        raise ValueError("run: expected one with its logits kept, simulate(..., keep=['logits'])")
    logits = np.where(run.problem.visible, run.logits[lane], -np.inf)
    chosen = run.selection[lane]
    selected = np.take_along_axis(logits, chosen[None, :, None], 2)[..., 0]
    others = np.where(np.arange(logits.shape[-1]) == chosen[:, None], -np.inf, logits).max(-1)
    lead = selected - others
    after = run.steps > 0
    ax.set(xlabel="step", ylabel="lead in logits")
    ax.grid(alpha=0.25, linewidth=0.6)
    sound = np.isfinite(lead[after]).all(0)
    if not sound.any():
        ax.text(0.5, 0.5, "no finite logits to draw", ha="center", va="center", transform=ax.transAxes)
        return ax
    ax.plot(run.steps[after], lead[after][:, sound], color="#332288", linewidth=0.8, alpha=0.6)
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=1)
    return ax


def _gradient(run: Run, ax: "Axes") -> None:
    after = run.steps > 0
    ax.plot(run.steps[after], run.log10_grad_norm[0, after], color="#332288", linewidth=1.4)
    ax.set(xscale="log", xlabel="step", ylabel="$\\log_{10}\\|\\nabla L\\|$")
    ax.grid(alpha=0.25, linewidth=0.6)
