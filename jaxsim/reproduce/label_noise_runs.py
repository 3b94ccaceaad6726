"""Label noise: published draws, gradient descent on W and p, and the same in coefficients (arXiv 2409.17625).

The model is f(X) = νᵀXᵀφ, φ = softmax(XWp), with ν fixed; W and p are trained on the mean of log(1 + exp(-y f)).
With M = W_0 W_0ᵀ and the training tokens as rows of X, gradient descent keeps

    Wp = Xᵀa + M Xᵀb   and   W Wᵀ = M + XᵀPX + XᵀQXM + MXᵀQᵀX,

since every step changes W by Xᵀγ pᵀ and p by WᵀXᵀγ, γ the gradient in the logits. So a run needs K = XXᵀ, B = XMXᵀ
and (a, b, P, Q, |p|²), never d, and logits of any other tokens x follow from (a, b): x·Wp = (xXᵀ)a + (xMXᵀ)b.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.integrate import solve_ivp


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the published program is told; d numbers a token, n sequences of T tokens, `flipped` of the labels wrong."""

    d: int = 2000
    n: int = 20
    T: int = 8
    rho: float = 0.1
    signal: float = 20.0
    flipped: float = 0.2
    eta: float = 5e-3
    steps: int = 1000
    tests: int = 1000
    seed: int = 42


@dataclasses.dataclass(frozen=True, eq=False)
class Draw:
    """Sequences: tokens, labels as told to training, and which of them were flipped."""

    tokens: Float[np.ndarray, "n T d"]
    labels: Float[np.ndarray, " n"]
    flipped: Bool[np.ndarray, " n"]


def noise(count: int, setting: Setting, seed: int) -> Float[np.ndarray, "n T d"]:
    """What the seed draws, rounded to float32 as published."""
    drawn = np.random.default_rng(seed).standard_normal((count, setting.T, setting.d))
    return drawn.astype(np.float32)


def labels(count: int, flipped: float) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """True labels, the first half +1, and whether each is flipped: as many at the start of either half."""
    true = np.where(np.arange(count) < count // 2, 1.0, -1.0)
    each, wrong = int(np.ceil(count * flipped)) // 2, np.zeros(count, bool)
    wrong[:each] = wrong[count // 2 : count // 2 + each] = True
    return true, wrong


def signals(true: Float[np.ndarray, " n"], setting: Setting) -> Float[np.ndarray, "n T 2"]:
    """Multiples of the unit vectors e_1 and e_2 that the tokens carry, in units of the signal.

    The first token carries its class's vector, the second ρ of it, the third ρ of the other's.
    """
    found = np.zeros((len(true), setting.T, 2), np.float32)
    own = np.stack([true > 0, true < 0], -1)
    found[:, 0], found[:, 1], found[:, 2] = own, setting.rho * own, setting.rho * ~own
    return found


def draw(count: int, setting: Setting, flipped: float, seed: int) -> Draw:
    """The published sequences of a seed. Fewer sequences of one seed have the noise of the first of more."""
    tokens = noise(count, setting, seed)
    true, wrong = labels(count, flipped)
    tokens[..., :2] += np.float32(setting.signal) * signals(true, setting)
    return Draw(tokens.astype(float), np.where(wrong, -true, true), wrong)


def start(d: int, seed: int) -> Float[np.ndarray, "d d"]:
    """W_0: uniform on ±1/√d, the published law; the published program sets no seed for it."""
    return np.random.default_rng(seed).uniform(-1, 1, (d, d)) / np.sqrt(d)


def scores(tokens: Float[np.ndarray, "... d"], signal: float) -> Float[np.ndarray, "..."]:
    """x·ν, ν = (e_1 - e_2)/(√2 signal)."""
    return (tokens[..., 0] - tokens[..., 1]) / (np.sqrt(2) * signal)


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """Of training tokens, all that gradient descent needs: Gram matrices, scores, labels."""

    K: Float[np.ndarray, "m m"]
    B: Float[np.ndarray, "m m"]
    scores: Float[np.ndarray, "n T"]
    labels: Float[np.ndarray, " n"]
    flipped: Bool[np.ndarray, " n"]

    @property
    def told(self) -> Float[np.ndarray, "n T"]:
        """Scores times labels."""
        return self.scores * self.labels[:, None]


@dataclasses.dataclass(frozen=True, eq=False)
class Tests:
    """Of test tokens: products with the training tokens, scores, labels."""

    K: Float[np.ndarray, "N m"]
    B: Float[np.ndarray, "N m"]
    scores: Float[np.ndarray, "n T"]
    labels: Float[np.ndarray, " n"]

    def logits(self, a: Float[np.ndarray, " m"], b: Float[np.ndarray, " m"]) -> Float[np.ndarray, "n T"]:
        """x·Wp of every token."""
        return (self.K @ a + self.B @ b).reshape(self.scores.shape)


def reduce(train: Draw, test: Draw, W: Float[np.ndarray, "d d"], signal: float) -> tuple[Data, Tests]:
    """Products of the tokens, straight from the definitions."""
    X, Z = (one.tokens.reshape(-1, len(W)) for one in (train, test))
    Y = (X @ W) @ W.T
    data = Data(X @ X.T, Y @ X.T, scores(train.tokens, signal), train.labels, train.flipped)
    return data, Tests(Z @ X.T, Z @ Y.T, scores(test.tokens, signal), test.labels)


def softmax(logits: Float[np.ndarray, "... T"]) -> Float[np.ndarray, "... T"]:
    """φ."""
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def correct(logits: Float[np.ndarray, "n T"], told: Float[np.ndarray, "n T"]) -> Bool[np.ndarray, " n"]:
    """Whether y f(X) > 0."""
    return (softmax(logits) * told).sum(-1) > 0


def gradient(
    logits: Float[np.ndarray, "n T"], told: Float[np.ndarray, "n T"]
) -> tuple[Float[np.ndarray, "n T"], float]:
    """(g, c): the gradient in the logits is eᶜ g; right to the last digits however saturated the maps are.

    With k the token of the largest logit, γ_t = -σ(-yf) φ_t Σ_s φ_s (r_t - r_s) / n, r = told: for t ≠ k each term has
    a factor exp(a_t - a_k), and for t = k each term has one of the others', so that eᶜ, the largest of them, comes out.
    """
    n = len(logits)
    rows, top = np.arange(n), logits.argmax(-1)
    gaps = logits - logits[rows, top][:, None]
    gaps[rows, top] = -np.inf
    c = float(gaps.max())
    scaled, plain = np.exp(gaps - c), np.exp(gaps)  # the top's own entry is 0 in both
    total = 1 + plain.sum(-1, keepdims=True)
    behind = told - told[rows, top][:, None]  # r_t - r_k
    among = told * plain.sum(-1, keepdims=True) - (told * plain).sum(-1, keepdims=True)
    pull = scaled * (behind + among) / total**2
    pull[rows, top] = -(scaled * behind).sum(-1) / total[:, 0] ** 2
    f = told[rows, top] + (plain * behind).sum(-1) / total[:, 0]
    return -pull / (n * (1 + np.exp(f)))[:, None], c


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """Coefficients of Wp and of W Wᵀ, and |p|²."""

    a: Float[np.ndarray, " m"]
    b: Float[np.ndarray, " m"]
    P: Float[np.ndarray, "m m"]
    Q: Float[np.ndarray, "m m"]
    q: float

    @classmethod
    def zero(cls, m: int) -> "State":
        """Where p = 0, as published."""
        return cls(np.zeros(m), np.zeros(m), np.zeros((m, m)), np.zeros((m, m)), 0.0)

    def flat(self) -> Float[np.ndarray, " all"]:
        """As one vector."""
        return np.concatenate([self.a, self.b, self.P.ravel(), self.Q.ravel(), [self.q]])

    @classmethod
    def of(cls, flat: Float[np.ndarray, " all"], m: int) -> "State":
        """From one vector."""
        a, b, P, Q, q = np.split(flat, np.cumsum([m, m, m * m, m * m]))
        return cls(a, b, P.reshape(m, m), Q.reshape(m, m), float(q[0]))


def logits(data: Data, state: State) -> Float[np.ndarray, "n T"]:
    """Of the training tokens."""
    return (data.K @ state.a + data.B @ state.b).reshape(data.scores.shape)


def _pulls(data: Data, state: State) -> tuple[np.ndarray, ...]:
    """γ, s, and W Wᵀ Xᵀγ as coefficients of Xᵀ and M Xᵀ."""
    s = logits(data, state)
    g, c = gradient(s, data.told)
    g = np.exp(c) * g.ravel()
    Kg, Bg = data.K @ g, data.B @ g
    return g, s.ravel(), state.P @ Kg + state.Q @ Bg, g + Kg @ state.Q, Kg, Bg


def step(data: Data, state: State, eta: float) -> State:
    """One step of gradient descent in W and p, exactly: terms in η² and all."""
    g, s, along, other, Kg, Bg = _pulls(data, state)
    fall = s @ g
    return State(
        state.a - eta * (state.q * g + along) + eta**2 * fall * g,
        state.b - eta * other,
        state.P - eta * (np.outer(g, state.a) + np.outer(state.a, g)) + eta**2 * state.q * np.outer(g, g),
        state.Q - eta * np.outer(g, state.b),
        float(state.q - 2 * eta * fall + eta**2 * (Kg @ along + Bg @ other)),
    )


def velocity(data: Data, state: State) -> State:
    """The gradient flow: `step` less what it starts from, over η, as η → 0."""
    g, s, along, other, *_ = _pulls(data, state)
    outer = np.outer(g, state.a)
    return State(-(state.q * g + along), -other, -(outer + outer.T), -np.outer(g, state.b), float(-2 * (s @ g)))


def descend(data: Data, eta: float, record: Sequence[int], state: State | None = None, at: int = 0) -> list[State]:
    """States at the recorded steps, each step taken."""
    state = state or State.zero(len(data.K))
    kept = []
    for last in record:
        for _ in range(last - at):
            state = step(data, state, eta)
        kept.append(state)
        at = last
    return kept


def flow(data: Data, eta: float, record: Sequence[float], state: State, at: float, rtol: float = 1e-7) -> list[State]:
    """States at the recorded steps by the gradient flow from step `at`, time η · steps, in the logarithm of time.

    This integrates a differential equation (8th-order Runge-Kutta, Dormand and Prince); it takes no step of the map.
    What the two differ by is measured where both can be had.
    """
    m = len(data.K)

    def slope(tau: float, flat: np.ndarray) -> np.ndarray:
        return eta * np.exp(tau) * velocity(data, State.of(flat, m)).flat()

    times = np.log(np.asarray(record, float))
    found = solve_ivp(
        slope, (np.log(at), times[-1]), state.flat(), method="DOP853", t_eval=times, rtol=rtol, atol=rtol * 1e-3
    )
    if not found.success:
        raise RuntimeError(f"the flow stopped before step {record[-1]:g}: {found.message}")
    return [State.of(flat, m) for flat in found.y.T]


def weights(
    train: Draw, W: Float[np.ndarray, "d d"], eta: float, record: Sequence[int], signal: float, dtype: type = float
) -> list[tuple[Float[np.ndarray, " d"], float]]:
    """(Wp, |p|²) at the recorded steps as published: W and p themselves, softmax gradients as autodiff has them."""
    X = train.tokens.reshape(-1, len(W)).astype(dtype)
    W, p, kept = W.astype(dtype), np.zeros(len(W), dtype), []
    told = (scores(train.tokens, signal) * train.labels[:, None]).astype(dtype)
    for last in range(1, max(record) + 1):
        phi = softmax((X @ (W @ p)).reshape(told.shape))
        f = (phi * told).sum(-1, keepdims=True)
        g = -phi * (told - f) / (len(told) * (1 + np.exp(f)))
        h = X.T @ g.ravel()
        back = W.T @ h
        W -= np.outer(dtype(eta) * h, p)
        p = p - dtype(eta) * back
        if last in record:
            kept.append((W @ p, float(p @ p)))
    return kept


@functools.lru_cache(maxsize=2)
def published(setting: Setting = Setting()) -> tuple[Draw, Draw]:
    """Training and test sequences of the published program, both of one seed."""
    return (
        draw(setting.n, setting, setting.flipped, setting.seed),
        draw(setting.tests, setting, 0.0, setting.seed),
    )
