"""Joint training of a prompt p and the decoder v on three sequences (arXiv 2306.13596)."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsim import init, rules
from jaxsim.data import prompt
from jaxsim.margin import classifier, hard_margin, max_margin
from jaxsim.plot import token_plane
from jaxsim.plot.style import new_figure
from jaxsim.reproduce import original
from jaxsim.reproduce.paths import TracedJoint, cosine, weights_along
from jaxsim.reproduce.result import Result, Row
from jaxsim.simulation import simulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE = (
    "Tarzanagh, Li, Zhang, Oymak, arXiv 2306.13596. Settings: the authors' released program; published numbers: its "
    "saved output and figures, of the tight data set."
)
SETTINGS = (
    "n=3, T=2, d=2: tokens (0, 0) and (1, 1), (1, -1), (0.5, h) with labels 1, -1, 1; h=1 (tight) and 1.5 (not). "
    "p_0=(0, -1), v_0=(-1, 0), NGD of each with η=0.1, logistic loss."
)
HEIGHT = {"tight": 1.0, "not tight": 1.5}
STEPS, LONG = 1000, 100_000
READ = "Published value read off the figure."
SOFTMAX = {0: 0.424, 30: 0.73, 60: 0.966}  # step: mean attention of the second tokens, read off
LOGISTIC = {0: 0.525, 30: 0.87, 60: 0.996}  # step: mean probability of the labels
ACCURACY = 0.02


def run(quick: bool = False) -> Result:
    """The experiment. Quick: 1,000 steps where 100,000 are used otherwise."""
    found = {name: _train(name, STEPS if quick else LONG) for name in HEIGHT}
    rows = [row for name in HEIGHT for row in _rows(name, found[name])]
    arrays = {f"{name.replace(' ', '_')}_{key}": one[key] for name, one in found.items() for key in ("p", "v", "steps")}
    return Result(
        name="joint",
        title="Prompt and decoder trained together",
        source=SOURCE,
        settings=SETTINGS,
        rows=tuple(rows),
        figure=_figure(found),
        arrays=arrays,
        missing=("The figures of the data set that is not tight: not saved by the released program.",),
    )


def _train(name: str, deep: int) -> dict[str, Any]:
    tokens = np.zeros((3, 2, 2))
    tokens[:, 1] = [[1.0, 1.0], [1.0, -1.0], [0.5, HEIGHT[name]]]
    problem = prompt(tokens, [1, -1, 1], [-1.0, 0.0])
    record = np.unique(np.concatenate([np.arange(201), [STEPS], np.geomspace(STEPS, deep, 20).astype(int)]))
    start = np.array([[0.0], [-1.0]])
    run = simulate(
        problem, rules.NGD(0.1), init.Given(start), key=jax.random.key(0), lanes=1, steps=deep,
        record=record.tolist(), train=TracedJoint(), keep=("coeffs",),
    )  # fmt: skip
    rounded, _ = original.descend(
        original.prompt_and_decoder_loss,
        {"p": start.T, "v": np.array([[-1.0, 0.0]])},
        original.prompt_data(problem),
        eta=0.1,
        record=[*range(201), STEPS],
        eps=1e-9,
        dtype=np.float32,
    )
    return {
        "problem": problem,
        "run": run,
        "steps": record,
        "p": weights_along(run, start)[:, :, 0],
        "v": run.more["decoder_path"][0],
        "rounded": {key: value[:, 0] for key, value in rounded.items()},
    }


def _relaxed(problem: Any) -> np.ndarray:
    """The shortest p with margins ≥ 1, ≥ 1 and ≥ 0: the prediction where v's third constraint is slack."""
    differences = problem.tokens[:, 1] - problem.tokens[:, 0]
    unit, norm = hard_margin(differences[:2])
    if differences[2] @ unit < 0:  # then the third constraint would bind
        raise ValueError("problem: expected one whose first two sequences imply the third")
    return unit * norm


def _probabilities(problem: Any, p: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Attention of the second token and probability of the label, means over sequences, along a path."""
    logits = np.einsum("itd,rd->rit", problem.tokens, p)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    margins = problem.labels * np.einsum("rit,itd,rd->ri", weights, problem.tokens, v)
    return weights[..., 1].mean(1), (1 / (1 + np.exp(-margins))).mean(1)


def _rows(name: str, found: dict[str, Any]) -> list[Row]:
    problem, steps, p, v = (found[key] for key in ("problem", "steps", "p", "v"))
    relaxed = _relaxed(problem)
    mm, (unit, _) = max_margin(problem, [1, 1, 1]), classifier(problem, [1, 1, 1])
    rows = []
    if name == "tight":
        rows.append(Row("tight: ½‖p^mm‖²", mm.norm**2 / 2, 0.94444, None, 1e-5))
        rows.append(Row("tight: ½‖p‖² of the relaxed problem", float(relaxed @ relaxed / 2), 0.5, None, 1e-5))
        ours = _probabilities(problem, p, v)
        theirs = _probabilities(problem, found["rounded"]["p"], found["rounded"]["v"])
        names = ("softmax", "logistic")
        for kind, values, k in ((names[0], SOFTMAX, 0), (names[1], LOGISTIC, 1)):
            for step, value in values.items():
                at = int(np.flatnonzero(steps == step)[0])
                rows.append(
                    Row(f"tight: {kind} probability, step {step}", ours[k][at], value, theirs[k][at], ACCURACY, READ)
                )
    horizons = sorted({STEPS, int(steps[-1])})
    for step in horizons:
        at = int(np.flatnonzero(steps == step)[0])
        for what, direction in (("p^mm", mm.W[:, 0]), ("the relaxed problem", relaxed)):
            theirs = _miss(found["rounded"]["p"][-1], direction) if step == STEPS else None
            rows.append(
                Row(f"{name}: 1 - correlation of p with {what}, step {step:,}", _miss(p[at], direction), None, theirs)
            )
        theirs = _miss(found["rounded"]["v"][-1], unit) if step == STEPS else None
        rows.append(Row(f"{name}: 1 - correlation of v with v^mm, step {step:,}", _miss(v[at], unit), None, theirs))
    return rows


def _miss(a: np.ndarray, b: np.ndarray) -> float:
    return float(1 - cosine(a[:, None], b[:, None]))


def _figure(found: dict[str, Any]) -> "Figure":
    drawn = new_figure(figsize=(14, 4.4), layout="constrained")
    panels = drawn.subplots(1, 3)
    red, blue = "#D55E00", "#0072B2"
    for ax, (name, one) in zip(panels, found.items(), strict=False):
        problem = one["problem"]
        rays = [(max_margin(problem, [1, 1, 1]).W[:, 0], red, "$p^{mm}$"),
                (classifier(problem, [1, 1, 1])[0], blue, "$v^{mm}$")]  # fmt: skip
        if name == "not tight":
            rays.append((_relaxed(problem), "#E69F00", "relaxed p"))
        settled = prompt(problem.tokens, problem.labels, classifier(problem, [1, 1, 1])[0])  # stars under the last v
        token_plane(settled, ax, [(one["p"][:151], red, "p"), (one["v"][:151], blue, "v")], rays)
        ax.set_title(f"{name}: 150 steps", fontsize=10)
    one = found["tight"]
    for values, tone, label in zip(_probabilities(one["problem"], one["p"][:201], one["v"][:201]), (red, blue),
                                   ("softmax", "logistic"), strict=True):  # fmt: skip
        panels[2].plot(values, color=tone, label=f"{label} probability")
    for marks, tone in ((SOFTMAX, red), (LOGISTIC, blue)):
        panels[2].plot(list(marks), list(marks.values()), "+", color=tone, label="published, read off")
    panels[2].set(xlabel="step", title="tight: means over sequences")
    for ax in panels:
        ax.legend(fontsize=8, frameon=False)
        ax.grid(alpha=0.25, linewidth=0.6)
    return drawn
