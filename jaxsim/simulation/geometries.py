"""Rule × geometry: which max-margin solution each rule ends nearest to."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxsim.init import Fixed, Gaussian, Law
from jaxsim.margin import max_margin
from jaxsim.normed import NORMS, NormedMargin, check_norm, norm_of
from jaxsim.problem import Problem
from jaxsim.results import Saved
from jaxsim.rules import Rule, label
from jaxsim.simulation.one_problem import simulate
from jaxsim.simulation.regression import regress
from jaxsim.train import WEIGHTS, Weights

DEFAULT = tuple((name, None) for name in NORMS if name != "lp")
OF_VECTORS = (("frobenius", None), ("l1", None), ("linf", None))
Ends = list[tuple[np.ndarray, np.ndarray]]  # W and the selection of every lane that counts


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Geometry(Saved):
    """Medians over the saturated lanes of every rule.

    Attributes:
        rules: the rules, as text, K of them.
        norms: the norms, as text, N of them.
        correlation: ⟨W, W^α_N⟩ / (‖W‖_F ‖W^α_N‖_F), (K, N), with α the lane's own selection.
        margin_ratio: N(W^α_N) · (least margin of W) / N(W), (K, N): 1 exactly where W is a max-margin solution of the
            norm, which need not be unique for l1, linf and spectral; less elsewhere, negative where W does not
            separate α.
        saturated: lanes that entered, (K,); of linear regression, those whose w separates.
        lanes: lanes of every rule.
        labels: short names of the rules.
    """

    kind: ClassVar[str] = "geometry"

    rules: list[str]
    norms: list[str]
    correlation: Float[np.ndarray, "K N"]
    margin_ratio: Float[np.ndarray, "K N"]
    saturated: Int[np.ndarray, " K"]
    lanes: int
    labels: list[str]

    def _said(self):
        title = f"Geometry of {len(self.rules)} rules and {len(self.norms)} norms"
        return title, f"{self.lanes} lanes of each rule", f"saturated {', '.join(map(str, self.saturated))}"

    def _rows(self):
        """The norm whose solution each rule is nearest to."""
        known = [(rule, row) for rule, row in zip(self.labels, self.correlation, strict=True) if np.isfinite(row).any()]
        nearest = [(rule, int(np.nanargmax(row)), float(np.nanmax(row))) for rule, row in known]
        return [(rule, f"{self.norms[k]}, correlation {value:.3f}") for rule, k, value in nearest]


def geometry(
    problem: Problem,
    rules: Sequence[Rule],
    *,
    key: jax.Array,
    lanes: int = 16,
    steps: int = 20_000,
    init: Law | Fixed | None = None,
    norms: Sequence[tuple[str, float | None]] = DEFAULT,
    dtype: Any = None,
    batch: int | None = None,
) -> Geometry:
    """Run every rule from the same starts and hold its final W against the max-margin solution of every norm.

    Args:
        problem: the data.
        rules: the rules.
        key: the JAX key.
        lanes: runs per rule.
        steps: number of updates.
        init: the law of W_0; by default Gaussian(0.01).
        norms: pairs (norm, p) as for `max_margin`.
        dtype: as for `simulate`.
        batch: sequences per step, by default all; their order is that of fold_in(key, 2**32 - 1), as in `heads`.

    Returns:
        A `Geometry`; NaN where no lane of a rule has saturated, or no solution was certified.

    Raises:
        ValueError: for an unknown norm, and as `simulate`.
    """
    orders = [(name, check_norm(name, p)) for name, p in norms]
    ends: list[Ends] = []
    train = WEIGHTS if batch is None else Weights(batch, jax.random.fold_in(key, 2**32 - 1))
    law = init if init is not None else Gaussian(0.01)
    for rule in rules:
        run = simulate(
            problem, rule, law, key=key, lanes=lanes, steps=steps, train=train, dtype=dtype, limits="saturated"
        )
        settled = np.flatnonzero(np.isin(run.verdict, ("global", "local", "transient")))
        ends.append([(run.W(int(lane)), run.selection[lane]) for lane in settled])
    return _held(problem, rules, ends, orders, lanes)


def linear_geometry(
    features: Any,
    labels: Any,
    rules: Sequence[Rule],
    *,
    key: jax.Array,
    lanes: int = 16,
    steps: int = 20_000,
    init: Law | None = None,
    norms: Sequence[tuple[str, float | None]] = OF_VECTORS,
    dtype: Any = None,
    batch: int | None = None,
) -> Geometry:
    """The same of linear logistic regression: where w ends, against the hard-margin solution of every norm.

        w_N = argmin N(w)  subject to  y_i wᵀx_i ≥ 1

    Args:
        features: x, shape (n, d).
        labels: y, shape (n,), each +1 or -1.
        rules: rules that `regress` takes.
        key: the JAX key.
        lanes: runs per rule.
        steps: number of updates.
        init: the law of w_0; by default Gaussian(0.01).
        norms: pairs (norm, p) as for `max_margin`, w being a matrix of one column.
        dtype: as for `regress`.
        batch: samples per step, as for `regress`.

    Returns:
        A `Geometry`; NaN where no lane of a rule separates, or no solution was certified.

    Raises:
        ValueError: for an unknown norm, and as `regress`.
    """
    orders = [(name, check_norm(name, p)) for name, p in norms]
    law, ends = init if init is not None else Gaussian(0.01), []
    how: dict[str, Any] = dict(key=key, lanes=lanes, steps=steps, record=(), dtype=dtype, batch=batch)
    problem: Problem | None = None
    for rule in rules:
        run = regress(features, labels, rule, law, **how)
        problem = problem or _of_samples(features, labels)
        separates = (run.w @ problem.keys[:, 0].T).min(1) > 0
        ends.append([(w[:, None], np.zeros(len(problem.labels), int)) for w in run.w[separates]])
    assert problem is not None
    return _held(problem, rules, ends, orders, lanes)


def _of_samples(features: Any, labels: Any) -> Problem:
    """The att-SVM that is the hard-margin problem: of each sample y x and nothing, the query being 1."""
    rows = np.asarray(labels, float)[:, None] * np.asarray(features, float)
    keys, ones = np.stack([rows, np.zeros_like(rows)], 1), np.ones(len(rows))
    tokens = np.broadcast_to([[1.0], [0.0]], (len(rows), 2, 1))
    return Problem(tokens, ones[:, None], ones, [1.0], keys=keys)


def _held(
    problem: Problem, rules: Sequence[Rule], ends: list[Ends], orders: list[tuple[str, float | None]], lanes: int
) -> Geometry:
    """What rules have ended at, held against the solutions of all norms."""
    solved: dict[tuple[Any, ...], NormedMargin] = {}
    correlation, ratio = (np.full((len(rules), len(orders)), np.nan) for _ in range(2))
    for k, lanes_of_rule in enumerate(ends):
        each = np.full((2, len(lanes_of_rule), len(orders)), np.nan)
        for j, (W, alpha) in enumerate(lanes_of_rule):
            for m, (name, p) in enumerate(orders):
                case = (*alpha.tolist(), name, p)
                if case not in solved:
                    solved[case] = max_margin(problem, alpha, norm=name, p=p)  # type: ignore[arg-type]
                each[:, j, m] = _compare(problem, W, alpha, solved[case], name, p)
        if lanes_of_rule:
            correlation[k], ratio[k] = np.median(each, axis=1)
    names = [name if p is None else f"l{p:g}" for name, p in orders]
    saturated = np.array([len(lanes_of_rule) for lanes_of_rule in ends], int)
    texts, labels = [repr(rule) for rule in rules], [label(rule) for rule in rules]
    return Geometry(texts, names, correlation, ratio, saturated, lanes, labels)


def _compare(problem: Problem, W: np.ndarray, alpha: np.ndarray, best: NormedMargin, name: str, p: float | None):
    """Correlation and margin ratio of W with the solution of one norm."""
    if best.status != "optimal":
        return np.nan, np.nan
    logits = np.einsum("itd,de,ie->it", problem.keys, W, problem.queries)
    own = np.arange(len(alpha))
    others = problem.visible & (np.arange(logits.shape[1]) != alpha[:, None])
    margin = (logits[own, alpha][:, None] - logits)[others].min()
    correlation = np.sum(W * best.W) / np.linalg.norm(W) / np.linalg.norm(best.W)
    return correlation, best.norm * margin / norm_of(W, name, p)
