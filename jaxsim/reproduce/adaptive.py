"""GD, NGD and Polyak's step, on W alone, on W and u, and on linear logistic regression (arXiv 2402.05738)."""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsim import init, rules
from jaxsim.analysis import fit_rate
from jaxsim.analysis.rates import TOO_FEW, RateLaw
from jaxsim.data import signal_noise, unit_sphere
from jaxsim.plot import colour
from jaxsim.plot.style import BAND, new_figure
from jaxsim.reproduce.result import Result, Row
from jaxsim.rules import Rule
from jaxsim.simulation import regress, simulate
from jaxsim.train import Joint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE = (
    "Vasudeva, Deora, Thrampoulidis, arXiv 2402.05738: the comparison. Sizes, step sizes and horizon are conventions "
    "of this project: the paper's were not seen when this was written."
)
SETTINGS = (
    "signal_noise(n=10, T=5, d=64) from W_0 with N(0, 0.01²) entries (global starts); unit_sphere(n=6, T=8, d=10) from "
    "N(0, 0.3²) (global and local ends); linear regression on the mean token of each sequence of the former. "
    "{lanes} lanes, {steps:,} steps; GD η=1, NGD η=0.1, Polyak's step with factor 1 (1/2 with u trained). Rates are "
    "fitted to the last decade of steps. For linear regression and a fixed decoder the direction error should fall "
    "like 1/log t (GD) and 1/t (NGD, Polyak)."
)
QUANTITIES = ("direction error", "attention gap", "loss", "norm")
KEY = jax.random.key


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """What one rule does in one setting, lanes first; log10 of the attention gap and the loss."""

    setting: str
    rule: str
    steps: np.ndarray
    direction_error: np.ndarray
    attention_gap: np.ndarray | None
    loss: np.ndarray
    norm: np.ndarray
    verdict: np.ndarray | None
    decoder_error: np.ndarray | None = None


def run(quick: bool = False) -> Result:
    """The experiment. Quick: NGD alone, 4 lanes and 300 steps."""
    lanes, steps = (4, 300) if quick else (20, 10_000)
    chosen: list[Rule] = [rules.NGD(0.1)] if quick else [rules.GD(1.0), rules.NGD(0.1), rules.Polyak(1.0)]
    every = [curves for rule in chosen for curves in _settings(rule, lanes, steps)]
    arrays: dict[str, np.ndarray] = {"steps": every[0].steps}
    for one in every:
        name = f"{one.setting}_{one.rule}".replace(" ", "_").replace(",", "")
        for part in ("direction_error", "attention_gap", "loss", "norm", "decoder_error"):
            if getattr(one, part) is not None:
                arrays[f"{name}_{part}"] = getattr(one, part)
    return Result(
        name="adaptive",
        title="Adaptive steps: GD, NGD and Polyak",
        source=SOURCE,
        settings=SETTINGS.format(lanes=lanes, steps=steps),
        rows=tuple(row for one in every for row in _rows(one)),
        figure=_figure(every),
        arrays=arrays,
        missing=("The paper's own figures: their sizes and step sizes were not seen, so nothing is compared number by "
                 "number; the fitted rates are what can be held against its theory.",),
    )  # fmt: skip


def _settings(rule: Rule, lanes: int, steps: int) -> list[Curves]:
    """W alone from small starts, W alone where several ends compete, W and u, and linear regression."""
    easy, hard = signal_noise(KEY(0)), unit_sphere(KEY(7))
    options: dict[str, Any] = dict(key=KEY(2), lanes=lanes, steps=steps)
    found = []
    for setting, problem, scale in (("W alone", easy, 0.01), ("W alone, several ends", hard, 0.3)):
        run = simulate(problem, rule, init.Gaussian(scale), **options)
        found.append(_of_run(setting, run))
    both = rules.Polyak(0.5) if isinstance(rule, rules.Polyak) else rule
    run = simulate(easy, both, init.Gaussian(0.01), train=Joint(), **options)
    found.append(_of_run("W and u", run))
    line = regress(easy.tokens.mean(1), easy.labels, rule, init.Gaussian(0.01), **options)
    found.append(Curves("linear regression", rule.name, line.steps, line.direction_error, None, line.log10_loss,
                        line.norm, None))  # fmt: skip
    return found


def _of_run(setting: str, run: Any) -> Curves:
    return Curves(
        setting, run.settings["rule_name"], run.steps, run.direction_error, run.log10_attention_gap, run.log10_gap,
        run.norm, run.verdict, run.more.get("decoder_direction_error"),
    )  # fmt: skip


def _rows(one: Curves) -> list[Row]:
    law: RateLaw = "inverse-log" if one.rule == "gd" else "power"
    kind = "slope against 1/log t" if law == "inverse-log" else "exponent of t"
    rows = []
    ends = [None] if one.verdict is None else [e for e in ("global", "local") if np.any(one.verdict == e)]
    if one.verdict is not None:
        counts = {str(e): int(np.sum(one.verdict == e)) for e in np.unique(one.verdict)}
        note = ", ".join(f"{count} {end}" for end, count in counts.items())
        share = float(np.mean(one.verdict == "global"))
        rows.append(Row(f"{one.setting}, {one.rule}: share of lanes that end global", share, note=note))
    for end in ends:
        lanes = slice(None) if end is None else one.verdict == end
        rows.append(_rate(one, f"direction error{'' if end is None else f' of {end} lanes'}, {kind}",
                          one.direction_error[lanes], law))  # fmt: skip
    if one.decoder_error is not None:
        rows.append(_rate(one, f"direction error of u, {kind}", one.decoder_error, law))
    return rows


def _rate(one: Curves, name: str, error: np.ndarray, law: RateLaw) -> Row:
    rate = fit_rate(one.steps, error, law)
    interval = TOO_FEW + ": no interval" if np.isnan(rate.low) else f"95% interval [{rate.low:.4f}, {rate.high:.4f}]"
    note = f"{interval}, R² {rate.r_squared:.4f}, {rate.lanes} lanes"
    return Row(f"{one.setting}, {one.rule}: {name}", rate.slope, note=note)


def _figure(every: list[Curves]) -> "Figure":
    settings = list(dict.fromkeys(one.setting for one in every))
    drawn = new_figure(figsize=(14, 3.0 * len(settings)), layout="constrained")
    panels = drawn.subplots(len(settings), len(QUANTITIES))
    for one in every:
        row = panels[settings.index(one.setting)]
        gap = None if one.attention_gap is None else -one.attention_gap
        for ax, values in zip(row, (one.direction_error, gap, -one.loss, one.norm), strict=True):
            if values is not None:
                _draw(ax, one, values)
    labels = ("direction error", "digits of 1 - φ", "digits of the loss gap", "norm")
    for row, setting in zip(panels, settings, strict=True):
        row[0].set_title(setting, loc="left", fontsize=10)
        for ax, label in zip(row, labels, strict=True):
            ax.set(xscale="log", xlabel="step", ylabel=label)
            if label in ("direction error", "norm"):
                ax.set_yscale("log")
            elif ax.lines:
                ax.set_yscale("symlog", linthresh=1)
                ax.set_ylim(0, None, auto=True)
            ax.grid(alpha=0.25, linewidth=0.6)
    linear = panels[-1, 1]
    linear.clear()
    linear.axis("off")
    linear.text(0.5, 0.5, "no attention here", ha="center", va="center")
    panels[0, 0].legend(fontsize=8, frameon=False)
    drawn.suptitle("median and 5–95% over lanes (dashed: lanes that end local)", fontsize=10)
    return drawn


def _draw(ax: Any, one: Curves, values: np.ndarray) -> None:
    """One band for lanes that end global, and a dashed one for those that end local."""
    groups = [(slice(None), "-")] if one.verdict is None else [
        (one.verdict == end, line) for end, line in (("global", "-"), ("local", "--")) if np.any(one.verdict == end)
    ]  # fmt: skip
    after = one.steps > 0
    for lanes, line in groups:
        low, middle, high = np.percentile(values[lanes][:, after], (BAND[0], 50, BAND[1]), axis=0)
        label = one.rule if line == "-" else None
        ax.plot(one.steps[after], middle, line, color=colour(one.rule), label=label)
        ax.fill_between(one.steps[after], low, high, color=colour(one.rule), alpha=0.15, linewidth=0)
