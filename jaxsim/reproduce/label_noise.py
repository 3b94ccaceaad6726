"""Label noise: attention that fits flipped labels, whether it generalises, and for how long (arXiv 2409.17625)."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from jaxsim.plot.style import new_figure
from jaxsim.reproduce import label_noise_phases as phases
from jaxsim.reproduce import label_noise_runs as runs
from jaxsim.reproduce.result import Result, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCE = "Sakamoto, Sato, arXiv 2409.17625 (ICML 2025). Settings: the authors' released program; it prints no numbers."
SETTINGS = (
    "n=20, T=8, d=2,000, ρ=0.1, signal 20, four labels flipped, p_0=0, W_0 uniform on ±1/√d, ν fixed, mean logistic "
    "loss, GD on W and p, η=0.005, 1,000 steps, 1,000 test sequences, data of seed 42. Recomputed: coefficients over "
    "the training tokens, exactly GD on W and p, in float64. Original: W and p themselves in float32. Each step is "
    "taken up to {single:,}; later numbers are of the gradient flow, time η · steps, which is not the map. Phases, a "
    "convention of this project: benign = all training labels fitted, flipped ones too, and accuracy on fresh tests "
    "of at least {least}; harmful = fitted, and less than that."
)
MISSING = (
    "The program prints no accuracies, and the paper's figures of them were not read off. It draws W_0 without a seed: "
    "the data are the published ones to the bit, W_0 is of the published law.",
)
MEANINGS = (f"benign (tests ≥ {phases.GENERALISES})", "harmful (below)", "not yet fitted")
TONES = {"benign": "#0072B2", "harmful": "#D55E00", "not yet fitted": "#D9D9D9"}


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is run."""

    published: int = 1000  # steps in W
    compared: tuple[int, ...] = (10_000, 100_000)  # flow against single steps
    starts: int = 20  # W_0 at the published data
    tests: int = 400
    signals: tuple[float, ...] = (2, 4, 6, 8, 10, 14, 20, 40)
    seeds: int = 20
    steps: tuple[float, ...] = tuple(10.0**k for k in range(2, 13))
    single: int = 1000


QUICK = Size(50, (1200,), 1, 200, (4, 8, 20), 2, tuple(10.0**k for k in (2, 3, 6, 9)))


@dataclasses.dataclass(frozen=True, eq=False)
class Path:
    """One start at the published data: steps, and what there is at each."""

    steps: np.ndarray
    lane: phases.Lane
    states: list[runs.State]


def run(quick: bool = False) -> Result:
    """The published run, checked in W; its horizon; other starts; the phase diagram of signal against step."""
    size = QUICK if quick else Size()
    setting = runs.Setting()
    train, test = runs.published(setting)
    W = runs.start(setting.d, 0)
    data, tests = runs.reduce(train, test, W, setting.signal)
    steps = np.unique(np.geomspace(10, size.steps[-1], 60).astype(int))
    early = np.unique([*steps[steps < size.single], size.published, size.single])
    steps = np.concatenate([early, steps[steps > size.single]])
    states = phases.follow(data, setting.eta, steps.tolist(), size.single)
    path = Path(steps, phases.judge(data, tests, states), states)
    rows = _published_rows(size, setting, (train, test), W, (data, tests), path)
    rows += _flow_rows(size, setting, data, path) + _start_rows(size, setting, (train, test))
    found = phases.diagram(
        dataclasses.replace(setting, tests=size.tests), size.signals, range(size.seeds), size.steps, size.single
    )
    rows.append(_error_row(size, dataclasses.replace(setting, tests=size.tests)))
    rows += _phase_rows(found) + _delay_rows(found, size.single)
    arrays = {"steps": steps, "signals": np.array(size.signals), "phase_steps": np.array(size.steps)}
    for field in dataclasses.fields(phases.Lane):
        arrays |= {
            f"published_{field.name}": getattr(path.lane, field.name),
            f"phase_{field.name}": found.of(field.name),
        }
    return Result(
        name="label-noise",
        title="Label noise and delayed generalisation",
        source=SOURCE,
        settings=SETTINGS.format(single=size.single, least=phases.GENERALISES),
        rows=tuple(rows),
        figure=_figure(path, found, size.single),
        arrays=arrays | {"phases": found.of("phase")},
        missing=MISSING,
    )


def _published_rows(
    size: Size,
    setting: runs.Setting,
    draws: tuple[runs.Draw, runs.Draw],
    W: np.ndarray,
    reduced: tuple[runs.Data, runs.Tests],
    path: Path,
) -> list[Row]:
    """Both arithmetics at the published step, and how far apart they are."""
    (train, test), (data, tests), last = draws, reduced, size.published
    state = path.states[int(np.flatnonzero(path.steps == last)[0])]
    ours = runs.logits(data, state), tests.logits(state.a, state.b)
    theirs, apart = {}, {}
    for dtype in (np.float32, np.float64):
        ((w, _),) = runs.weights(train, W, setting.eta, [last], setting.signal, dtype)
        theirs[dtype] = train.tokens @ w.astype(float), test.tokens @ w.astype(float)
        apart[dtype] = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs[dtype], strict=True))
    right = [
        [runs.correct(a, told) for a, told in zip(way, (data.told, tests.scores * tests.labels[:, None]), strict=True)]
        for way in (ours, theirs[np.float32])
    ]
    shared = np.arange(len(test.labels)) < len(train.labels)
    leak = (
        f"The program draws both of one seed: {shared.sum()} test sequences have the noise of training sequences, and "
        f"{(train.tokens == test.tokens[shared]).all((1, 2)).sum()} of them are training sequences. Of "
        f"{(~right[0][1]).sum()} test errors, {(~right[0][1][shared]).sum()} are among those {shared.sum()}."
    )
    at = f"step {last:,}: "
    pairs = [
        ("training accuracy, labels as told", [way[0].mean() for way in right], ""),
        ("share of flipped labels fitted", [way[0][data.flipped].mean() for way in right], ""),
        (f"test accuracy, {len(shared):,} published tests", [way[1].mean() for way in right], leak),
        (f"test accuracy, {(~shared).sum()} tests of fresh noise", [way[1][~shared].mean() for way in right], ""),
    ]
    rows = [Row(at + name, float(a), None, float(b), note=note) for name, (a, b), note in pairs]
    note = f"Against GD on W and p in float64; the largest logit is {np.abs(ours[1]).max():.3g}. Original: in float32."
    apart_row = Row(at + "largest difference of a logit", apart[np.float64], None, apart[np.float32], note=note)
    return [*rows, apart_row]


def _flow_rows(size: Size, setting: runs.Setting, data: runs.Data, path: Path) -> list[Row]:
    """The flow against single steps, its tolerance, and the end of the horizon."""
    at = size.single
    begin = path.states[int(np.flatnonzero(path.steps == at)[0])]
    single = runs.descend(data, setting.eta, size.compared, begin, at)
    flowed = runs.flow(data, setting.eta, size.compared, begin, at)
    rows = []
    for last, one, other in zip(size.compared, single, flowed, strict=True):
        a, b = runs.logits(data, one), runs.logits(data, other)
        note = f"Both from step {at:,}; the largest logit is {np.abs(a).max():.3g}. Flow and map differ by order η."
        rows.append(
            Row(f"step {last:,}: largest difference of a logit, flow and single steps", _apart(a, b), note=note)
        )
    end = path.steps[-1]
    (finer,) = runs.flow(data, setting.eta, [end], begin, at, rtol=1e-8)
    a, b = runs.logits(data, path.states[-1]), runs.logits(data, finer)
    note = f"Tolerance 1e-7 as everywhere against 1e-8; the largest logit is {np.abs(b).max():.3g}."
    rows.append(Row(f"step {end:.0e}: largest difference of a logit, two tolerances", _apart(a, b), note=note))
    names = ("train", "training accuracy, labels as told"), ("test", "test accuracy, published tests")
    return rows + [Row(f"step {end:.0e}, flow: {words}", float(getattr(path.lane, name)[-1])) for name, words in names]


def _error_row(size: Size, setting: runs.Setting) -> Row:
    """The flow against single steps at every signal of the diagram."""
    last = size.compared[0]
    logit, accuracy = phases.flow_errors(setting, size.signals, 0, size.single, last)
    worst = ", ".join(f"{signal:g}: {error:.2g}" for signal, error in zip(size.signals, logit, strict=True))
    name = f"step {last:,}, every signal, first seed: largest difference of a test accuracy, flow and single steps"
    return Row(name, float(accuracy.max()), note=f"Largest difference of a logit by signal: {worst}.")


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def _start_rows(size: Size, setting: runs.Setting, draws: tuple[runs.Draw, runs.Draw]) -> list[Row]:
    """Other W_0 at the published data."""
    lanes = []
    for seed in range(size.starts):
        data, tests = runs.reduce(*draws, runs.start(setting.d, seed), setting.signal)
        lanes.append(phases.judge(data, tests, runs.descend(data, setting.eta, [size.published])))
    fitted = np.array([lane.train[0] == 1 for lane in lanes])
    counts, low, high = phases.shares(np.where(fitted, 0, 2))
    accuracy = np.array([lane.test[0] for lane in lanes])
    at = f"step {size.published:,}, {size.starts} W_0: "
    return [
        Row(
            at + "share that fit all labels",
            float(fitted.mean()),
            note=_interval(counts[0], size.starts, low[0], high[0]),
        ),
        Row(at + "mean test accuracy", float(accuracy.mean()), note=f"From {accuracy.min()} to {accuracy.max()}."),
    ]


def _interval(count: int, total: int, low: float, high: float) -> str:
    return f"{count} of {total}, 95% interval {low:.3f} to {high:.3f} (Wilson)."


def _phase_rows(found: phases.Diagram) -> list[Row]:
    """Share of benign runs at every signal, early, in the middle and at the end."""
    rows, number = [], found.of("phase")
    chosen = sorted({int(np.argmin(np.abs(np.log10(found.steps) - k))) for k in (3, 6, 12)})
    for i, signal in enumerate(found.signals):
        counts, low, high = phases.shares(number[i])
        for k in chosen:
            note = "; ".join(
                f"{name} {_interval(counts[p, k], number.shape[1], low[p, k], high[p, k])[:-1]}"
                for p, name in enumerate(phases.PHASES)
            )
            name = f"signal {signal:g}, step {found.steps[k]:.0e}: share benign"
            rows.append(Row(name, float(counts[0, k] / number.shape[1]), note=note + "."))
    return rows


def _delay_rows(found: phases.Diagram, single: int) -> list[Row]:
    """What tests gain or lose after the published step, paired by seed."""
    rows, k = [], list(found.steps).index(single)
    names = {"relevant": "attention on the relevant token", "loss": "loss", "test": "accuracy"}
    for name, words in names.items():
        values = found.of(name)
        for i, signal in enumerate(found.signals):
            change = values[i, :, -1] - values[i, :, k]
            error = change.std(ddof=1) / np.sqrt(len(change))
            note = (
                f"{values[i, :, k].mean():.4f} to {values[i, :, -1].mean():.4f}; standard error {error:.2g}, by seed."
            )
            quantity = f"signal {signal:g}: mean test {words}, change from step {single:,} to {found.steps[-1]:.0e}"
            rows.append(Row(quantity, float(change.mean()), note=note))
    return rows


def _figure(path: Path, found: phases.Diagram, single: int) -> "Figure":
    from matplotlib import colormaps

    drawn = new_figure(figsize=(15, 4.8), layout="constrained")
    left, middle, right = drawn.subplots(1, 3, width_ratios=(1, 1.35, 1))
    curves = {
        "train": ("training accuracy, labels as told", "#000000"),
        "flipped": ("share of flipped labels fitted", "#D55E00"),
        "test": ("test accuracy", "#0072B2"),
        "relevant": ("test attention on relevant token", "#009E73"),
    }
    for name, (label, tone) in curves.items():
        left.plot(path.steps, getattr(path.lane, name), color=tone, label=label)
    left.axvline(single, color="black", linewidth=0.8, linestyle=":")
    left.text(single * 1.5, 0.02, "gradient flow →", fontsize=8)
    left.set(xscale="log", xlabel="step", ylabel="share", ylim=(-0.03, 1.03), title="published data, signal 20")
    left.legend(fontsize=8, frameon=False, loc="center right")
    _draw_phases(middle, found, single)
    for i, signal in enumerate(found.signals):
        tone = colormaps["viridis_r"]((i + 1) / len(found.signals))
        right.plot(found.steps, found.of("test")[i].mean(0), color=tone, label=f"{signal:g}")
        right.plot(found.steps, found.of("relevant")[i].mean(0), color=tone, linestyle="--")
    right.axhline(phases.GENERALISES, color="black", linewidth=0.6, label="benign above")
    right.set(
        xscale="log", xlabel="step", ylabel="mean over runs", ylim=(-0.03, 1.03),
        title="tests: accuracy (solid),\nattention on relevant token (dashed)",
    )  # fmt: skip
    right.legend(title="by signal", fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    for ax in (left, right):
        ax.grid(alpha=0.25, linewidth=0.6)
    return drawn


def _draw_phases(ax: "Axes", found: phases.Diagram, single: int) -> None:
    """One row a signal; in each, one column a step, stacked of its phases; dots where the flow takes over."""
    number = found.of("phase")
    for i in range(len(found.signals)):
        bottom = np.full(len(found.steps), i - 0.44)
        for p, name in enumerate(phases.PHASES):
            share = 0.88 * (number[i] == p).mean(0)
            label = MEANINGS[p] if i == 0 else None
            ax.bar(range(len(share)), share, 0.94, bottom, color=TONES[name], label=label)
            bottom += share
    ax.set(
        xlim=(-0.5, len(found.steps) - 0.5), ylim=(-0.5, len(found.signals) - 0.5), xlabel="step", ylabel="signal",
        title=f"each cell: shares of {number.shape[1]} runs, stacked",
    )  # fmt: skip
    flow = list(found.steps).index(single) + 0.5
    ax.axvline(flow, color="black", linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(found.steps)), [f"$10^{{{round(np.log10(k))}}}$" for k in found.steps])
    ax.set_yticks(range(len(found.signals)), [f"{signal:g}" for signal in found.signals])
    ax.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)
