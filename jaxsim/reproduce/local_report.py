"""Rows and figure of the local-convergence experiment, from its curves."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsim.plot import colour
from jaxsim.plot.style import new_figure
from jaxsim.reproduce.local_curves import Measured
from jaxsim.reproduce.result import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AFTER = {10: 0.2639, 100: 0.7388, 500: 0.96884, 1000: 0.98897, 1999: 0.99595}  # update index: mean over 100 runs
READ = 0.01  # how well a curve of the published figure can be read
TRAP = (
    "The original's gradient has lost its direction by then, so runs that should leave stay; its own arithmetic gives "
    "its number."
)


def rows(study: Measured) -> tuple[Row, ...]:
    """Published and recomputed numbers."""
    return (*_same_data(study), *_verdicts(study), *_all_runs(study), *_eps(study), *_figures(study))


def _same_data(study: Measured) -> list[Row]:
    """Means over the runs with known starts, against the correlations that the original stored."""
    stored = study.saved["correlation"][: len(study.problems)]
    stayed = (study.weights.selection[: len(stored)] == study.saved["selection"][: len(stored)]).all(1)
    theirs = study.weights_original.frobenius[: len(stored)]
    found = []
    for k, index in enumerate(study.saved["at"].tolist()):
        if index == 0:
            continue
        at = np.flatnonzero(study.steps == index + 1)[0]
        ours, name = study.against_published[:, at], f"mean correlation (W), {len(stored)} known runs, update {index:,}"
        found.append(
            Row(name, ours.mean(), stored[:, k].mean(), theirs[:, at].mean(), note=TRAP if index > 1000 else "")
        )
    at = np.flatnonzero(study.steps == 2000)[0]
    left = [r for r in range(len(stored)) if not stayed[r]]
    found.append(
        Row(
            f"the same at update 1,999 without the {len(left)} that left",
            study.against_published[stayed, at].mean(),
            stored[stayed, -1].mean(),
            theirs[stayed, at].mean(),
            note=f"Runs {', '.join(map(str, left)) or 'none'} have left the published selection. Those of the "
            "others were shortened by the eps, in rounded directions.",
        )  # fmt: skip
    )
    apart = np.abs(theirs[:, at] - stored[:, -1]).max()
    note = "Over the known runs; the selections are equal in all of them." if _equal(study) else ""
    return [
        *found,
        Row(
            "largest difference of emulated and published correlation, update 1,999", apart, 0.0, within=5e-4, note=note
        ),
    ]


def _equal(study: Measured) -> bool:
    stored = study.saved["selection"][: len(study.problems)]
    return bool((study.weights_original.selection[: len(stored)] == stored).all())


def _verdicts(study: Measured) -> list[Row]:
    """Which published end states do not last."""
    stored = study.saved["selection"][: len(study.problems)]
    best = np.stack([p.optimal for p in study.problems])
    moved = np.flatnonzero((study.deep_selection != stored).any(1))
    home = [int(r) for r in moved if (study.deep_selection[r] == best[r]).all()]
    away = [f"{r} ({study.deep_verdict[r]})" for r in moved.tolist() if r not in home]
    deepest = int(study.deep_steps[-1])
    note = (
        f"Followed to step {deepest:,} with right gradients, runs {home} reach the global selection and runs "
        f"[{', '.join(away)}] another one; the published program shows all as converged where they were."
    )
    return [
        Row(f"known runs whose final selection changes by step {deepest:,}", len(moved), 0.0, 0.0, 0.5, note),
        Row(
            f"median 1 - correlation with the own limit at step {deepest:,}",
            float(np.median(1 - study.deep_correlation[:, -1])),
        ),
    ]


def _all_runs(study: Measured) -> list[Row]:
    """Means over all runs; half of the starts are other draws, so that two standard errors are allowed."""
    count = len(study.problems)
    chance = "Half of the starts are other draws: two standard errors are allowed."
    found = []
    for index, mean in AFTER.items():
        at = np.flatnonzero(study.steps == index + 1)[0]
        ours = study.weights.frobenius[:, at]
        spread = 2 * ours.std() / np.sqrt(count)
        name = f"mean correlation (W), {count} runs, update {index:,}"
        found.append(Row(name, ours.mean(), mean, study.weights_original.frobenius[:, at].mean(), spread, chance))
    best = np.stack([p.optimal for p in study.problems])
    pairs = [(curves.selection == best) for curves in (study.weights, study.weights_original)]
    each, whole = ([hit.mean() for hit in pairs], [hit.all(1).mean() for hit in pairs])
    found.append(Row("share of sequences that selected the best token", each[0], 0.937, each[1], 0.05, chance))
    error = 2 * np.sqrt(0.69 * 0.31 / count)
    return [*found, Row("share of runs that selected all the best", whole[0], 0.69, whole[1], error, chance)]


def _eps(study: Measured) -> list[Row]:
    shortened = float(np.mean(study.step_length < 0.99))
    return [
        Row("share of runs whose last step is shortened by eps", 0.0, 1.0, shortened, 0.005,
            "No eps is added here; the emulated original has the gradient below eps in the norm at the end."),
        Row("median length of the last step over η", 1.0, 0.045, float(np.median(study.step_length)), 0.01,
            "The same eps. A step of full length in a rounded direction would be worse, so the eps hides the fault."),
    ]  # fmt: skip


def _figures(study: Measured) -> list[Row]:
    at = {step: np.flatnonzero(study.steps == step)[0] for step in (100, 200, 1000)}
    w, pair, theirs = study.weights, study.key_query, study.weights_original
    spread = 2 * w.nuclear[:, at[1000]].std() / np.sqrt(len(study.problems))
    read = "Published value read off the figure."
    return [
        Row("mean softmax probability (W), step 200", w.softmax[:, at[200]].mean(), 0.965,
            theirs.softmax[:, at[200]].mean(), 0.02, read),
        Row("mean softmax probability (K, Q), step 100", pair.softmax[:, at[100]].mean(), 0.995,
            study.key_query_original.softmax[:, at[100]].mean(), READ, read + " Other starts."),
        Row("mean correlation of W with the nuclear att-SVM, step 1,000", w.nuclear[:, at[1000]].mean(), 0.862,
            theirs.nuclear[:, at[1000]].mean(), READ + spread, read),
        Row("mean correlation of K Qᵀ with the nuclear att-SVM, step 2,000", pair.nuclear[:, -1].mean(), None,
            study.key_query_original.nuclear[:, -1].mean(),
            note="The original adds a penalty of 2e-16 (‖K‖² + ‖Q‖²) to the loss, against rounding."),
        Row("mean correlation of K Qᵀ with the Frobenius att-SVM, step 2,000", pair.frobenius[:, -1].mean(), None,
            study.key_query_original.frobenius[:, -1].mean()),
    ]  # fmt: skip


def figure(study: Measured) -> "Figure":
    """Softmax probability, correlations up to step 1,000, and the distance to the limit at any depth."""
    drawn = new_figure(figsize=(15, 4.6), layout="constrained")
    left, middle, right = drawn.subplots(1, 3)
    blue, red = colour("gd"), colour("ngd")
    shown = study.steps <= 1000
    for curves, tone, label in ((study.weights, blue, "W"), (study.key_query, red, "(K, Q)")):
        _band(left, study.steps[shown], curves.softmax[:, shown], tone, label)
    left.set(xlabel="step", ylabel="softmax probability", title="mean ± std over problems", ylim=(0, 1.05))
    for values, tone, label in (
        (study.weights.frobenius, blue, "W with $W^{mm}$"),
        (study.weights.nuclear, "#56B4E9", "W with $W^{mm}_\\star$"),
        (study.key_query.nuclear, red, "(K, Q) with $W^{mm}_\\star$"),
        (study.key_query.frobenius, "#E69F00", "(K, Q) with $W^{mm}$"),
    ):
        _band(middle, study.steps[shown], values[:, shown], tone, label)
    points = [k for k in AFTER if k <= 1000]
    middle.plot([k + 1 for k in points], [AFTER[k] for k in points], "k+", label="published mean (W, 100 runs)")
    middle.set(xlabel="step", ylabel="correlation", title="with the limit of the final selection", ylim=(0, 1.05))
    everything = np.concatenate([study.steps, study.deep_steps])
    after = everything > 0
    right.plot(everything[after], np.median(1 - study.deep_correlation, 0)[after], color=blue, label="right gradients")
    own = np.median(1 - study.weights_original.frobenius, 0)
    right.plot(study.steps[study.steps > 0], own[study.steps > 0], "--", color="black", label="as published (emulated)")
    stored = study.saved["correlation"]
    right.plot(study.saved["at"] + 1, np.median(1 - stored, 0), "k+", label="published, 50 runs")
    right.set(xscale="log", yscale="log", xlabel="step", ylabel="1 - correlation", title="median, W, own limit")
    for ax in (left, middle, right):
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.legend(fontsize=9, frameon=False)
    return drawn


def _band(ax: Any, steps: np.ndarray, values: np.ndarray, tone: str, label: str) -> None:
    mean, std = np.nanmean(values, 0), np.nanstd(values, 0)
    ax.plot(steps, mean, color=tone, label=label)
    ax.fill_between(steps, mean - std, mean + std, color=tone, alpha=0.15, linewidth=0)
