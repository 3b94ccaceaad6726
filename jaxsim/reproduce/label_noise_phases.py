"""Label noise: benign, harmful or not yet fitted, for many signals, starts and times (arXiv 2409.17625)."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxsim.analysis.intervals import wilson_bounds
from jaxsim.reproduce import label_noise_runs as runs

GENERALISES = 0.95  # a convention of this project: the least test accuracy called benign
PHASES = ("benign", "harmful", "not yet fitted")


@dataclasses.dataclass(frozen=True, eq=False)
class Products:
    """Products of noise and of the unit vectors of the signals, from which those for any signal follow.

    Rows v are the noise tokens and then e_1 and e_2: `K` is v vᵀ and `B` is v W_0 W_0ᵀ vᵀ, with the training noise and
    e_1, e_2 as columns. `scores` are the first two numbers of every noise token.
    """

    K: Float[np.ndarray, "rows columns"]
    B: Float[np.ndarray, "rows columns"]
    scores: Float[np.ndarray, "N 2"]

    def of(self, carried: np.ndarray, columns: np.ndarray, signal: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """K, B and scores of tokens that carry multiples of the signal, with training tokens that carry `columns`."""
        lift, right = (np.hstack([np.eye(len(c)), signal * c]) for c in (carried, columns))
        numbers = self.scores + signal * carried
        return lift @ self.K @ right.T, lift @ self.B @ right.T, runs.scores(numbers, signal)


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """One draw of noise, for training and test apart, and of W_0: the same at every signal."""

    train: Products
    test: Products
    setting: runs.Setting

    def at(self, signal: float) -> tuple[runs.Data, runs.Tests]:
        """The problem at one signal."""
        s = self.setting
        true, wrong = runs.labels(s.n, s.flipped)
        fresh, _ = runs.labels(s.tests, 0.0)
        own, other = (runs.signals(y, s).astype(float).reshape(-1, 2) for y in (true, fresh))
        K, B, scores = self.train.of(own, own, signal)
        data = runs.Data(K, B, scores.reshape(s.n, s.T), np.where(wrong, -true, true), wrong)
        K, B, scores = self.test.of(other, own, signal)
        return data, runs.Tests(K, B, scores.reshape(s.tests, s.T), fresh)


def draw(setting: runs.Setting, seed: int) -> Draws:
    """Noise of training, noise of tests and W_0, each of its own stream."""
    streams = np.random.SeedSequence(seed).generate_state(3)
    noise, fresh = (
        runs.noise(count, setting, int(stream)).astype(float).reshape(-1, setting.d)
        for count, stream in zip((setting.n, setting.tests), streams, strict=False)
    )
    W = runs.start(setting.d, int(streams[2]))
    units = np.eye(2, setting.d)
    X, Z = np.vstack([noise, units]), np.vstack([fresh, units])
    Y = (X @ W) @ W.T
    return Draws(Products(X @ X.T, Y @ X.T, noise[:, :2]), Products(Z @ X.T, Z @ Y.T, fresh[:, :2]), setting)


@dataclasses.dataclass(frozen=True, eq=False)
class Lane:
    """Along one run: accuracy on all training labels as told, on the flipped ones, on tests; of tests, mean loss too.

    `relevant` is the mean attention of tests on their relevant token, the first.
    """

    train: Float[np.ndarray, " R"]
    flipped: Float[np.ndarray, " R"]
    test: Float[np.ndarray, " R"]
    loss: Float[np.ndarray, " R"]
    relevant: Float[np.ndarray, " R"]

    @property
    def phase(self) -> Int[np.ndarray, " R"]:
        """Numbers into PHASES."""
        return np.where(self.train < 1, 2, np.where(self.test >= GENERALISES, 0, 1))


def judge(data: runs.Data, tests: runs.Tests, states: Sequence[runs.State]) -> Lane:
    """Every state."""
    fitted = np.array([runs.correct(runs.logits(data, state), data.told) for state in states])
    phi = np.array([runs.softmax(tests.logits(state.a, state.b)) for state in states])
    margins = (phi * tests.scores * tests.labels[:, None]).sum(-1)
    return Lane(
        train=fitted.mean(1),
        flipped=fitted[:, data.flipped].mean(1),
        test=(margins > 0).mean(1),
        loss=np.log1p(np.exp(-margins)).mean(1),
        relevant=phi[:, :, 0].mean(1),
    )


def follow(data: runs.Data, eta: float, record: Sequence[float], single: int) -> list[runs.State]:
    """States at the recorded steps: up to step `single` each is taken, from there on the gradient flow is followed."""
    taken = [int(k) for k in record if k < single] + [single]
    states = runs.descend(data, eta, taken)
    later = [k for k in record if k > single]
    beyond = runs.flow(data, eta, later, states[-1], single) if later else []
    return states[: len(record) - len(later)] + beyond


def shares(phases: Int[np.ndarray, "seeds ..."]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, and Wilson bounds of the shares, of every phase; phases first."""
    counts = np.stack([(phases == k).sum(0) for k in range(len(PHASES))])
    low, high = wilson_bounds(counts, len(phases))
    return counts, low, high


@dataclasses.dataclass(frozen=True, eq=False)
class Diagram:
    """Lanes of every seed at every signal; arrays have axes signals, seeds, steps."""

    signals: Sequence[float]
    steps: Sequence[float]
    lanes: list[list[Lane]]

    def of(self, name: str) -> Shaped[np.ndarray, "signals seeds R"]:
        """A field of `Lane`, or its phase."""
        return np.array([[getattr(lane, name) for lane in row] for row in self.lanes])


def diagram(
    setting: runs.Setting, signals: Sequence[float], seeds: Sequence[int], steps: Sequence[float], single: int
) -> Diagram:
    """Every seed's noise and W_0 at every signal, step by step up to `single` and by the flow from there on."""
    lanes: list[list[Lane]] = [[] for _ in signals]
    for seed in seeds:
        drawn = draw(setting, seed)
        for row, signal in zip(lanes, signals, strict=True):
            data, tests = drawn.at(signal)
            row.append(judge(data, tests, follow(data, setting.eta, steps, single)))
    return Diagram(signals, steps, lanes)


def flow_errors(
    setting: runs.Setting, signals: Sequence[float], seed: int, single: int, last: int
) -> tuple[Float[np.ndarray, " signals"], Float[np.ndarray, " signals"]]:
    """What the flow from step `single` and single steps differ by at step `last`: logits, and accuracies of tests."""
    drawn, logits, accuracies = draw(setting, seed), [], []
    for signal in signals:
        data, tests = drawn.at(signal)
        (begin,) = runs.descend(data, setting.eta, [single])
        (one,) = runs.descend(data, setting.eta, [last], begin, single)
        (other,) = runs.flow(data, setting.eta, [last], begin, single)
        lane = judge(data, tests, [one, other])
        logits.append(np.abs(runs.logits(data, one) - runs.logits(data, other)).max())
        accuracies.append(abs(lane.test[0] - lane.test[1]))
    return np.array(logits), np.array(accuracies)
