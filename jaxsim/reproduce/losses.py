"""Linear against logistic loss: which way a prompt takes (arXiv 2306.13596)."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsim import init, rules
from jaxsim.data import prompt
from jaxsim.margin import max_margin
from jaxsim.plot import token_plane
from jaxsim.plot.style import new_figure
from jaxsim.reproduce import original
from jaxsim.reproduce.paths import cosine, weights_along
from jaxsim.reproduce.result import Result, Row
from jaxsim.simulation import simulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE = (
    "Tarzanagh, Li, Zhang, Oymak, arXiv 2306.13596. Settings: the authors' released program; published numbers read "
    "off its saved figure."
)
SETTINGS = (
    "n=2, T=2, d=3: tokens (0, 0, 0) and (1, 1, C); (0, 0, 0) and (1, -1, 1). W=diag(1, 1, 0), decoder (0, 0, 1), "
    "labels 1, p_0=0, NGD η=0.1, C from 1 to 10 and 100."
)
SIZES = (*range(1, 11), 100)
STEPS, LONG = 1000, 100_000
AHEAD = 12.0
# p_2 where p_1 = 12, read off the figure, by loss and C.
READ = {"linear": {2: 0.35, 10: 1.15, 100: 2.3}, "logistic": {2: -0.05, 6: -1.45, 10: -3.15}}
ACCURACY, FIGURE = 0.1, "Published value read off the figure."
FAR = (
    "Sequence 1 has margin 50 at the start, so its gradient is e^-50 of the other's until p has gone far along (1, -1)."
)
LOSSES = {"linear": original.prompt_linear_loss, "logistic": original.prompt_loss}


def run(quick: bool = False) -> Result:
    """The experiment. Quick: C of 2, 10 and 100, and 1,000 steps where 100,000 are used otherwise."""
    sizes = (2, 10, 100) if quick else SIZES
    deep = STEPS if quick else LONG
    record = np.unique(np.concatenate([np.arange(STEPS + 1), [deep]]))
    paths = {loss: np.stack([_path(C, loss, record) for C in sizes]) for loss in LOSSES}
    rounded = {loss: _rounded(sizes, loss) for loss in LOSSES}
    return Result(
        name="losses",
        title="Linear against logistic loss",
        source=SOURCE,
        settings=SETTINGS,
        rows=tuple(_rows(sizes, record, paths, rounded)),
        figure=_figure(sizes, paths),
        arrays={"C": np.array(sizes), "steps": record}
        | {f"{loss}_path": path for loss, path in paths.items()}
        | {f"{loss}_published_arithmetic": path for loss, path in rounded.items()},
    )


def _problem(C: float) -> Any:
    tokens = np.zeros((2, 2, 3))
    tokens[:, 1] = [[1.0, 1.0, C], [1.0, -1.0, 1.0]]
    return prompt(tokens, [1, 1], [0.0, 0.0, 1.0], np.diag([1.0, 1.0, 0.0]))


def _path(C: float, loss: Any, record: np.ndarray) -> np.ndarray:
    """The first two coordinates of p at the recorded steps."""
    run = simulate(
        _problem(C), rules.NGD(0.1), init.Zero(), key=jax.random.key(0), lanes=1, steps=int(record[-1]),
        record=record.tolist(), loss=loss, keep=("coeffs",),
    )  # fmt: skip
    return weights_along(run, np.zeros((3, 1)))[:, :2, 0]


def _rounded(sizes: tuple[int, ...], loss: str) -> np.ndarray:
    """The same up to step 1,000 in the published arithmetic."""
    parts = [original.prompt_data(_problem(C)) for C in sizes]
    data = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    start = {"p": np.zeros((len(sizes), 3))}
    found, _ = original.descend(LOSSES[loss], start, data, eta=0.1, record=range(STEPS + 1), eps=1e-9, dtype=np.float32)
    return found["p"].swapaxes(0, 1)[:, :, :2]


def _second(path: np.ndarray, first: float) -> float:
    """p_2 where p_1 first reaches a value."""
    return float(np.interp(first, path[:, 0], path[:, 1]))


def _rows(sizes, record, paths, rounded) -> list[Row]:
    rows = []
    for loss, marks in READ.items():
        for C, value in marks.items():
            if C in sizes:
                k = sizes.index(C)
                ours, theirs = _second(paths[loss][k][: STEPS + 1], AHEAD), _second(rounded[loss][k], AHEAD)
                rows.append(Row(f"{loss}, C={C}: p_2 where p_1 = {AHEAD:g}", ours, value, theirs, ACCURACY, FIGURE))
    k = sizes.index(100)
    ours, theirs = _second(paths["logistic"][k][: STEPS + 1], 6.0), _second(rounded["logistic"][k], 6.0)
    rows.append(Row("logistic, C=100: p_2 where p_1 = 6", ours, -6.0, theirs, ACCURACY, FIGURE))
    limit = max_margin(_problem(1.0)).W[:2]
    for loss, C in ((loss, C) for loss in LOSSES for C in (10, 100)):
        k = sizes.index(C)
        for step in sorted({STEPS, int(record[-1])}):
            missed = _missed(paths[loss][k][np.flatnonzero(record == step)[0]], limit)
            theirs = _missed(rounded[loss][k][-1], limit) if step == STEPS else None
            name = f"{loss}, C={C}: 1 - correlation with p^mm, step {step:,}"
            rows.append(Row(name, missed, None, theirs, note=FAR if (loss, C) == ("logistic", 100) else ""))
    return rows


def _missed(p: np.ndarray, limit: np.ndarray) -> float:
    return float(1 - cosine(p[:, None], limit))


def _figure(sizes, paths) -> "Figure":
    drawn = new_figure(figsize=(13, 4.6), layout="constrained")
    left, right = drawn.subplots(1, 2)
    tones = {"linear": "#D55E00", "logistic": "#0072B2"}
    problem = _problem(10.0)
    shown = [(path[:136], tones[loss], "") for loss in paths for path in paths[loss][:-1]]
    token_plane(problem, left, shown, [(max_margin(problem).W[:2, 0], "black", "$p^{mm}$")])
    for loss in paths:
        left.plot([], [], color=tones[loss], label=f"{loss}, C = {sizes[0]} to {sizes[-2]}")
        left.plot(*paths[loss][-1][:136].T, ":", color=tones[loss], label=f"{loss}, C = 100")
        for C, value in READ[loss].items():
            left.plot(AHEAD, value, "+", color=tones[loss], label="published, read off" if C == 2 else None)
    left.set(xlim=(-1, 13), ylim=(-6, 4), title="p, 135 steps")
    for loss in paths:
        for C, line in ((2, "-"), (10, "--"), (100, ":")):
            path = paths[loss][sizes.index(C)][1 : STEPS + 1]
            angle = np.degrees(np.arctan2(path[:, 1], path[:, 0]))
            right.plot(np.arange(1, len(path) + 1), angle, line, color=tones[loss], label=f"{loss}, C = {C}")
    right.set(xscale="log", xlabel="step", ylabel="angle of p (degrees)", title="direction: the limit is 0")
    for ax in (left, right):
        ax.legend(fontsize=8, frameon=False)
        ax.grid(alpha=0.25, linewidth=0.6)
    return drawn
