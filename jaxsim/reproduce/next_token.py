"""Next-token prediction: W against the graph-SVM, from global and from local runs (arXiv 2403.08081)."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jaxsim.margin import finite_part
from jaxsim.plot.style import new_figure
from jaxsim.reproduce import next_token_runs as runs
from jaxsim.reproduce import next_token_starts
from jaxsim.reproduce.paths import cosine
from jaxsim.reproduce.result import Result, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE = (
    "Li, Huang, Ildiz, Rawat, Oymak, arXiv 2403.08081. Settings and published numbers: the authors' released notebooks."
)
SETTINGS = (
    "n=6, T=4, K=6, d=8, embeddings on the unit sphere, draws of seed 1 that have a cycle, W_0 uniform on ±1/√d, NGD. "
    "Global: -log Σ_(x_t=y) φ_t, η=0.01, 4,000 steps, W against the graph-SVM of the labels. Local: "
    "(1 - softmax(E Xᵀφ)_y)², E the embeddings, η=0.1, 2,000 steps, against the graph-SVM of the tokens of weight "
    "above 0.01. The published arithmetic is emulated with every sum in its order; the graph-SVM is exact, where the "
    "published one is a first-order solver's."
)
WITHIN = 1e-5
SHORT = (
    "Attention has saturated: the published gradient is what rounding leaves, and below the eps that its norm is "
    "given, so that the last published step has {share:.3f} of its length. Right gradients go on at full length."
)
BOUNCES = (
    "Steps of length η bounce about the finite part: one step earlier the emulation gives {before:.8f}. Which of the "
    "two comes last is decided by rounding."
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One of the two published experiments."""

    name: str
    loss: Any
    eta: float
    steps: int
    layers: int  # made of every draw, each of which advances the stream
    published: tuple[float, ...]


GLOBAL = Setting(
    "global", runs.likelihood, 0.01, 4000, 2,
    (0.98744261, 0.98757892, 0.98401835, 0.98774575, 0.98767699,
     0.99123754, 0.97859767, 0.97615322, 0.98601229, 0.99279535),
)  # fmt: skip
LOCAL = Setting(
    "local", runs.squared, 0.1, 2000, 3,
    (0.99887992, 0.99209596, 0.99952876, 0.9970317, 0.99857763,
     0.99940865, 0.99917508, 0.99583999, 0.99928289, 0.99951486),
)  # fmt: skip
# Of the global runs: the distance of the finite part from the minimiser, and the correlation of the rest.
DISTANCE = (
    0.00492891, 0.00993223, 0.00493397, 0.01198355, 0.00486986,
    0.00491170, 0.00518630, 0.00500783, 0.00590265, 0.00437580,
)  # fmt: skip
REST = (
    0.98744265, 0.98794035, 0.98401839, 0.98804731, 0.98767702,
    0.99123755, 0.97859770, 0.97615324, 0.98601231, 0.99279536,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Both ways through one experiment: published arithmetic, right gradients."""

    setting: Setting
    batch: runs.Batch
    record: np.ndarray
    paths: tuple[runs.Path, runs.Path]
    limits: tuple[Float[np.ndarray, "p d d"], Float[np.ndarray, "p d d"]]

    @property
    def correlations(self) -> Float[np.ndarray, "2 R p"]:
        """Of W with the limit of its last step."""
        return np.stack([cosine(path.W, limit) for path, limit in zip(self.paths, self.limits, strict=True)])


def run(quick: bool = False, starts: int | None = None) -> Result:
    """The experiment, and then the local one from `starts` further starts of every draw: 30, or 2 if quick."""
    found = {setting.name: measure(setting) for setting in (GLOBAL, LOCAL)}
    each = starts or (2 if quick else 30)
    rows = [row for one in found.values() for row in _rows(one)]
    ends, arrays = next_token_starts.rows(found["local"].batch, each, LOCAL)
    for name, one in found.items():
        arrays |= {f"{name}_steps": one.record, f"{name}_published": np.array(one.setting.published)}
        for kind, path, correlation in zip(("original", "right"), one.paths, one.correlations, strict=True):
            arrays |= {
                f"{name}_{kind}": correlation,
                f"{name}_{kind}_attention": path.attention[-1],
                f"{name}_{kind}_step_length": path.step_length,
            }
    return Result(
        name="next-token",
        title="Next-token prediction",
        source=SOURCE,
        settings=SETTINGS,
        rows=tuple(rows + _finite_rows(found["global"]) + ends),
        figure=_figure(found),
        arrays=arrays,
    )


def measure(setting: Setting) -> Measured:
    """Both arithmetics from the published starts, and the limit of each end."""
    batch = runs.draw(len(setting.published), setting.layers)
    last = setting.steps
    record = np.unique(np.concatenate([np.geomspace(10, last, 40).astype(int), [last - 1, last]]))
    how: Any = {"eta": setting.eta, "record": record.tolist()}
    paths = [runs.descend(batch, setting.loss, published=published, **how) for published in (True, False)]
    chosen = [batch.labels if setting is GLOBAL else path.attention[-1] > runs.SELECTED for path in paths]
    limits = [np.stack([svm.W for svm in runs.limits(batch, ends)]) for ends in chosen]
    return Measured(setting, batch, record, (paths[0], paths[1]), (limits[0], limits[1]))


def _rows(one: Measured) -> list[Row]:
    rows, (original, right) = [], one.correlations
    for k, value in enumerate(one.setting.published):
        note = ""
        if abs(original[-1, k] - original[-2, k]) > WITHIN:
            note = BOUNCES.format(before=original[-2, k])
        elif abs(right[-1, k] - value) > WITHIN:
            note = SHORT.format(share=one.paths[0].step_length[k])
        name = f"{one.setting.name}, draw {k}: correlation of W with the graph-SVM"
        rows.append(Row(name, float(right[-1, k]), value, float(original[-1, k]), WITHIN, note))
    return rows


def _finite_rows(one: Measured) -> list[Row]:
    """Finite part and rest of the global runs."""
    distances, rests = [], []
    svms = runs.limits(one.batch, one.batch.labels)
    for k, svm in enumerate(svms):
        least, _ = finite_part(svm)
        parts = [_split(path.W[-1, k], svm.cyclic) for path in one.paths[::-1]]
        near = [float(np.linalg.norm(finite - least)) for finite, _ in parts]
        note = f"Both bounce by steps of {one.setting.eta}, the published minimiser too."
        name = f"global, draw {k}: distance of the finite part from the minimiser"
        distances.append(Row(name, near[0], DISTANCE[k], near[1], one.setting.eta, note))
        rest = [float(cosine(rest, svm.W)) for _, rest in parts]
        rests.append(
            Row(f"global, draw {k}: correlation of the rest of W with the graph-SVM", rest[0], REST[k], rest[1], WITHIN)
        )
    return distances + rests


def _split(W: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W on the cyclic subspace, and the rest."""
    finite = basis @ np.einsum("der,de->r", basis, W)
    return finite, W - finite


def _figure(found: dict[str, Measured]) -> "Figure":
    drawn = new_figure(figsize=(13, 4.4), layout="constrained")
    left, *panels = drawn.subplots(1, 3)
    tones = {"published arithmetic": "#999999", "right gradients": "#0072B2"}
    for ax, (name, one) in zip(panels, found.items(), strict=True):
        for (label, tone), correlation in zip(tones.items(), one.correlations, strict=True):
            for k, path in enumerate(1 - correlation.T):
                ax.plot(one.record, path, color=tone, linewidth=0.9, label=label if k == 0 else None)
        ax.plot([one.setting.steps] * 10, 1 - np.array(one.setting.published), "k+", label="published")
        ax.set(xscale="log", yscale="log", xlabel="step", title=f"{name} runs")
        shift = 10 * (name == "local")
        for (label, tone), ends in zip(tones.items(), one.correlations[:, -1], strict=True):
            missed = np.maximum(np.abs(ends - np.array(one.setting.published)), 1e-9)
            left.plot(np.arange(10) + shift, missed, "o", color=tone, label=label if not shift else None)
    left.axhline(WITHIN, color="black", linewidth=0.6)
    left.set(
        yscale="log", xlabel="draw: 0 to 9 global, 10 to 19 local", title="distance from the published correlation"
    )
    panels[0].set_ylabel("1 - correlation with the graph-SVM")
    for ax in (left, *panels):
        ax.legend(fontsize=8, frameon=False)
        ax.grid(alpha=0.25, linewidth=0.6)
    return drawn
