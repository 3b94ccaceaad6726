"""Several tokens at once under a ReLU head: every problem counted, three predictors of W (arXiv 2308.16898)."""

from typing import TYPE_CHECKING

import numpy as np

from jaxsim.analysis import wilson
from jaxsim.plot.style import new_figure
from jaxsim.reproduce.relu_runs import PREDICTORS, REASONS, RECORD, TESTED, Judged, draw, judge, right, rounded
from jaxsim.reproduce.result import Result, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE = (
    "Tarzanagh, Li, Thrampoulidis, Oymak, arXiv 2308.16898. Settings: the authors' released program; published "
    "numbers read off its saved figure."
)
DIMENSIONS = (4, 6, 8, 10)
DRAWN = 2000
STEPS = np.delete(RECORD, TESTED) - 1  # as the figure counts them
# Mean 1 - correlation at update 2,000 with W_eq, W_mm and single over 500 kept problems, read off the figure.
PUBLISHED = {
    4: (0.034, 0.072, 0.155), 6: (0.0165, 0.043, 0.145), 8: (0.011, 0.015, 0.135), 10: (0.0056, 0.0087, 0.122),
}  # fmt: skip
NAMES = {"eq": "the finite part + the SVM direction", "mm": "the SVM direction", "single": "a single token"}
DROPPED = "The paper's 500 problems are those that passed; how many did not is not reported."


def run(quick: bool = False) -> Result:
    """The experiment. Quick: d of 4 and 6, 60 problems each."""
    dimensions, count = (DIMENSIONS[:2], 60) if quick else (DIMENSIONS, DRAWN)
    found: dict[int, tuple[Judged, Judged]] = {}
    for d in dimensions:
        batch = draw(d, count)
        found[d] = judge(batch, right(batch)), judge(batch, rounded(batch))
    rows = [row for d in dimensions for row in _rows(d, *found[d])]
    arrays = {
        f"d{d}_{name}_{part}": getattr(judged, part)
        for d, pair in found.items()
        for name, judged in zip(("right", "original"), pair, strict=True)
        for part in ("reason", "correlation", "leftover", "flat")
    }
    return Result(
        name="multi-token",
        title="Several tokens under a ReLU head",
        source=SOURCE,
        settings=(
            f"n=3, T=4, problems of seeds 1 to {count} for each d, all counted; the head sums ReLU units, NGD η=0.1, "
            "2,000 updates. A token is selected where its weight is above 1e-3 and left out where it is at most 1e-6; "
            "starts are our draws (theirs came from an unseeded generator). Reasons in the arrays: "
            + ", ".join(f"{k} {reason}" for k, reason in enumerate(REASONS)) + "."
        ),
        rows=tuple(rows),
        figure=_figure(found),
        arrays=arrays | {"updates": STEPS},
        missing=(
            "500 kept problems for each d: so few pass that up to tens of thousands would have to be run; "
            f"{count:,} are drawn for each d, and those that pass are compared.",
        ),
    )  # fmt: skip


def _rows(d: int, ours: Judged, theirs: Judged) -> list[Row]:
    rows = []
    kept, kept_there = ours.reason == 0, theirs.reason == 0
    flat = kept & ours.flat
    for reason, name in enumerate(REASONS):
        p = wilson(int((ours.reason == reason).sum()), len(kept))
        note = f"{p.count} of {p.total}, interval [{p.low:.3f}, {p.high:.3f}]. " + (DROPPED if reason == 0 else "")
        rows.append(
            Row(f"d={d}: share {name}", p.value, None, float(np.mean(theirs.reason == reason)), note=note.strip())
        )
    if not (kept.any() and kept_there.any()):
        return rows
    rows.append(Row(f"d={d}: share of the kept with a flat sequence", float(np.mean(flat[kept])), None,
                    float(np.mean(theirs.flat[kept_there])),
                    note="A sequence without active unit has no gradient, so it constrains W nowhere."))  # fmt: skip
    for k, predictor in enumerate(PREDICTORS):
        miss, miss_there = 1 - ours.correlation[k, -1], 1 - theirs.correlation[k, -1]
        spread = 2 * miss_there[kept_there].std() / np.sqrt(kept_there.sum())
        why = (
            f"{kept.sum()} problems kept here, {kept_there.sum()} in the published arithmetic, 500 in the paper; two "
            "standard errors allowed. With right gradients steps stay long and other problems pass; the last row of "
            "this d is of those without a flat sequence."
        )
        name = f"d={d}: 1 - correlation with {NAMES[predictor]}"
        theirs_mean = float(miss_there[kept_there].mean())
        rows.append(Row(f"{name}, mean", float(miss[kept].mean()), PUBLISHED[d][k], theirs_mean, spread, why))
        medians = float(np.median(miss[kept])), float(np.median(miss_there[kept_there]))
        rows.append(Row(f"{name}, median", medians[0], None, medians[1]))
    bent = kept & ~ours.flat
    if bent.any():
        miss = float(np.median(1 - ours.correlation[0, -1, bent]))
        bent_there = kept_there & ~theirs.flat
        miss_there = float(np.median(1 - theirs.correlation[0, -1, bent_there])) if bent_there.any() else None
        name = f"d={d}: the same with {NAMES['eq']} where no sequence is flat, median"
        note = f"{bent.sum()} problems here, {bent_there.sum()} in the published arithmetic."
        rows.append(Row(name, miss, None, miss_there, note=note))
    return rows


def _figure(found: dict[int, tuple[Judged, Judged]]) -> "Figure":
    drawn = new_figure(figsize=(3.6 * len(found), 7.4), layout="constrained")
    panels = drawn.subplots(2, len(found), sharey="row", squeeze=False)
    tones = {"eq": "#0072B2", "mm": "#009E73", "single": "#D55E00"}
    for column, (d, (ours, theirs)) in zip(panels.T, found.items(), strict=True):
        for judged, line, title in ((ours, "-", "right gradients"), (theirs, ":", "as published")):
            kept = judged.reason == 0
            if kept.any():
                for k, predictor in enumerate(PREDICTORS):
                    label = f"{NAMES[predictor]}, {title}" if d == min(found) else None
                    miss = np.median(1 - judged.correlation[k][:, kept], 1)
                    column[0].plot(STEPS, miss, line, color=tones[predictor], label=label)
        for k, predictor in enumerate(PREDICTORS):
            column[0].plot(2000, PUBLISHED[d][k], "+", color=tones[predictor], label=None)
        column[0].set(
            yscale="log", xlabel="update", title=f"d={d}: {np.sum(ours.reason == 0)} of {len(ours.reason)} kept"
        )
        for judged, tone, title in ((theirs, "#999999", "as published"), (ours, "#0072B2", "right gradients")):
            kept = judged.reason == 0
            column[1].scatter(np.maximum(judged.leftover[kept], 1e-40), 1 - judged.correlation[0, -1, kept], s=8,
                              color=tone, label=title if d == min(found) else None)  # fmt: skip
        column[1].set(xscale="log", yscale="log", xlabel="largest weight left out (not below 1e-40)")
        for ax in column:
            ax.grid(alpha=0.25, linewidth=0.6)
    panels[0, 0].set_ylabel("1 - correlation, median of the kept\n(+: published mean)")
    panels[1, 0].set_ylabel("1 - correlation with the first predictor, last step")
    drawn.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawn
