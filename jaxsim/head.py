"""A head on real data: W and the decoder trained together, with accuracy on training and test sequences."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import numpy as np
import scipy.special
from jaxtyping import Float, Int

from jaxsim._check import one_of, open_share, positive_number, whole_number
from jaxsim.coordinates import frame_of
from jaxsim.driver import record_steps
from jaxsim.init import Given
from jaxsim.problem import Problem
from jaxsim.results import Run, Saved
from jaxsim.rules import Rule, check_rule
from jaxsim.simulation import check_kept, simulate
from jaxsim.train import Joint

if TYPE_CHECKING:
    import pandas

CURVES = ("log10_loss", "norm", "decoder_norm", "direction_error", "decoder_direction_error", "attention")
FEWEST = 20  # pairs of which means are shown with intervals
ACCURACIES = ("train_accuracy", "test_accuracy")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Heads(Saved):
    """What `heads` returns: P pairs (data sets), K rules, R recorded steps.

    Attributes:
        pairs: names of the data sets, P of them.
        rules: the rules, as text, K of them.
        labels: short names of the rules.
        steps: recorded steps, (R,).
        curves: name to numbers (P, K, lanes, R): `train_accuracy` and `test_accuracy` (where there is a test set), the
            share of sequences with y f(x) > 0, so that ties count as wrong; `log10_loss` of the training set; `norm`
            ‖W‖ and `decoder_norm` ‖u‖; `direction_error` of W to the att-SVM of the lane's final selection, and
            `decoder_direction_error` of u to the hard-margin classifier of the tokens it selects, NaN where there is
            none; `attention`, the mean over training sequences of the largest attention weight.
        saturated: whether a lane's attention has saturated at the end, (P, K, lanes).
        settings: how the lanes were made.
        seconds: time of each pair and rule, (P, K).
    """

    kind: ClassVar[str] = "heads"

    pairs: list[str]
    rules: list[str]
    labels: list[str]
    steps: Int[np.ndarray, " R"]
    curves: dict[str, Float[np.ndarray, "P K lanes R"]]
    saturated: np.ndarray
    settings: dict[str, Any]
    seconds: Float[np.ndarray, "P K"]

    def _said(self):
        P, K, lanes = self.saturated.shape
        made = f"{lanes} lanes of each, {self.steps[-1]:,} steps, scale {self.settings['scale']:g}"
        return f"Heads of {P} data sets and {K} rules", made, ", ".join(f"{a}: {b}" for a, b in self._rows())

    def _rows(self):
        """The mean accuracy of each rule at the end."""
        name = ACCURACIES[ACCURACIES[1] in self.curves]
        final = _mean(self.curves[name][..., -1].swapaxes(0, 1).reshape(len(self.rules), -1), 1)
        return [
            (label, f"{name.replace('_', ' ')} {100 * value:.1f}%")
            for label, value in zip(self.labels, final, strict=True)
        ]

    def interval(self, curve: str, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and t interval of a curve, (K, R) each: over pairs of means over lanes; of one pair, over lanes.

        Values that are not finite are left out. Pairs that share a class are not independent, which the interval
        does not know (convention of this project). The bounds are NaN where there is one value only.

        What the level 0.95 covers, measured by drawing from the 45 pairs of digits: 94 to 96% over 45 pairs, under
        Polyak's heavy tails 92%; 88% at worst over 20. Over starts of one pair it holds for values that are spread
        smoothly, at any number of starts, but an accuracy that is 1 in nearly all starts and Polyak's loss are missed
        up to four times in five. So figures and tables show intervals only where `has_interval` says so.

        Raises:
            ValueError: for an unknown curve, or a level outside 0 to 1.
        """
        values, level = self.curves[one_of("curve", curve, list(self.curves))], open_share("level", level)
        units = _mean(values, 2) if len(self.pairs) > 1 else np.moveaxis(values[0], 1, 0)
        mean = _mean(units, 0)
        if len(units) < 2:
            return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
        finite = np.isfinite(units)
        count = finite.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = np.where(finite, (units - mean) ** 2, 0.0).sum(0) / (count - 1)
            half = scipy.special.stdtrit(count - 1, 0.5 + level / 2) * np.sqrt(variance / count)
        return mean, mean - half, mean + half

    @property
    def has_interval(self) -> bool:
        """Whether means are over pairs, 20 at least, over which `interval` was measured to cover."""
        return len(self.pairs) >= FEWEST

    def to_pandas(self) -> "pandas.DataFrame":
        """One row per pair, rule and lane, with the last recorded values."""
        import pandas as pd

        P, K, lanes = self.saturated.shape
        pair, rule, lane = (index.ravel() for index in np.indices((P, K, lanes)))
        columns = {"pair": np.array(self.pairs)[pair], "rule": np.array(self.rules)[rule], "lane": lane}
        final = {name: values[..., -1].ravel() for name, values in self.curves.items()}
        return pd.DataFrame(columns | final | {"saturated": self.saturated.ravel()})

    def curves_table(self) -> "pandas.DataFrame":
        """One row per pair, rule, recorded step and curve: mean, least and largest over the lanes that are finite."""
        import pandas as pd

        shape = (len(self.pairs), len(self.rules), len(self.steps))
        pair, rule, step = (index.ravel() for index in np.indices(shape))
        rows = []
        for name, values in self.curves.items():
            sound = np.isfinite(values)
            low, high = (pick(np.where(sound, values, np.nan), axis=2) for pick in (np.fmin.reduce, np.fmax.reduce))
            rows.append(
                pd.DataFrame(
                    {
                        "pair": np.array(self.pairs)[pair],
                        "rule": np.array(self.rules)[rule],
                        "step": self.steps[step],
                        "quantity": name,
                        "mean": _mean(values, 2).ravel(),
                        "low": low.ravel(),
                        "high": high.ravel(),
                    }
                )
            )
        return pd.concat(rows, ignore_index=True)


def heads(
    sets: Mapping[str, tuple[Problem, Problem | None]],
    rules: Sequence[Rule],
    *,
    key: jax.Array,
    lanes: int = 4,
    steps: int = 1000,
    batch: int | None = None,
    scale: float = 0.1,
    record: Sequence[int] | None = None,
    limits: Literal["all", "saturated", "none"] = "all",
    dtype: Any = None,
    progress: Callable[[str, Rule], None] | None = None,
) -> Heads:
    """Train W and the decoder together on every data set with every rule, and follow train and test accuracy.

    W_0 has independent N(0, scale²) entries, projected on the span of the training tokens and queries, so that the
    head starts blind to what its training data never show; u_0 = 0. All rules of a data set share their starts and
    their batches. W and u run in primal coordinates, or in full ones where a rule needs them.

    Args:
        sets: name to training and test set, such as `jaxsim.data.digits_split` and `load_split` give; the decoder of a
            training set plays no part.
        rules: the rules; NGD normalises W's and u's gradient each on its own, Polyak takes L* = 0.
        key: the JAX key; lane i starts from fold_in(key, i), batches come from fold_in(key, 2**32 - 1).
        lanes: runs per data set and rule.
        steps: number of updates.
        batch: sequences per step; None for all.
        scale: standard deviation of an entry of W_0.
        record: as for `simulate`.
        limits: as for `simulate`; with thousands of tokens in hundreds of dimensions take "none".
        dtype: as for `simulate`.
        progress: called as progress(name, rule) before each run.

    Returns:
        A `Heads`.

    Raises:
        ValueError: where there is no data set or no rule, names repeat, a test set does not fit, or as `simulate`.

    Example:
        >>> import jax, jaxsim
        >>> pair = {"3,8": jaxsim.data.digits_split((3, 8), images=20)}
        >>> found = jaxsim.heads(pair, [jaxsim.rules.NGD(0.1)], key=jax.random.key(0), lanes=2, steps=20)
        >>> found.curves["test_accuracy"].shape[:3]
        (1, 1, 2)
    """
    lanes = whole_number("lanes", lanes)
    scale = positive_number("scale", scale)
    _check(sets, rules)
    order = None if batch is None else jax.random.fold_in(key, 2**32 - 1)
    found: list[list[Run]] = []
    for problem, _ in sets.values():
        recorded, (d, e) = record_steps(steps, record), problem.weights
        check_kept(problem, lanes, len(recorded), runs=len(sets) * len(rules), more=d * e)
    for name, (problem, test) in sets.items():
        starts = Given(_starts(problem, key, lanes, scale))
        train = Evaluated(decoder=np.zeros(problem.shape[2]), batch=batch, key=order, test=test)
        found.append([])
        for rule in rules:
            if progress is not None:
                progress(name, rule)
            full = rule.coordinates == "full"
            run = simulate(
                problem, rule, starts, key=key, lanes=lanes, steps=steps, record=record, train=train, dtype=dtype,
                coordinates="full" if full else "primal", limits=limits,
            )  # fmt: skip
            found[-1].append(run)
    return _gather(list(sets), found, {"batch": batch, "scale": scale, "lanes": lanes, "steps": steps})


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated(Joint):
    """`Joint` that also predicts labels at every recorded step: of the training set, and of a test set if given.

    Args:
        decoder: as for `Joint`.
        batch: as for `Joint`.
        key: as for `Joint`.
        test: sequences to predict. W's part outside the span of the training data is taken as zero.
    """

    test: Problem | None = None

    curves: ClassVar[Mapping[str, str]] = {**Joint.curves, **dict.fromkeys((*ACCURACIES, "attention"), "")}

    def columns(self, view):
        """Those of `Joint`, the share of sequences with y f(x) > 0, and the mean of the largest attention weights."""
        columns = super().columns(view)
        u = self.decoders(view)
        xi, _ = self.locate(view.frame, view.known, view.records.position)
        for name, problem in zip(ACCURACIES, (view.problem, self.test), strict=True):
            if problem is None:
                continue
            # Lane by lane: the attention of all lanes at all steps may not fit into memory.
            each = [predict(problem, view.frame.bases, *parts) for parts in zip(xi, u, strict=True)]
            columns[name] = np.array([(margin > 0).mean(1) for margin, _ in each])
            if problem is view.problem:
                columns["attention"] = np.array([largest.mean(1) for _, largest in each])
        return columns


def predict(
    problem: Problem, bases: tuple[np.ndarray, np.ndarray], xi: Float[np.ndarray, "R size"], u: Float[np.ndarray, "R d"]
) -> tuple[Float[np.ndarray, "R n"], Float[np.ndarray, "R n"]]:
    """y_i f(x_i) and max_t φ_it of any sequences under R heads.

    Args:
        problem: the sequences; its decoder plays no part.
        bases: orthonormal bases of the training tokens and queries.
        xi: W of each head, in primal coordinates on these bases.
        u: decoder of each head.
    """
    tokens, queries = problem.keys @ bases[0], problem.queries @ bases[1]
    core = np.asarray(xi, np.float64).reshape(len(xi), queries.shape[1], tokens.shape[2])
    logits = np.einsum("itx,rix->rit", tokens, np.einsum("rzx,iz->rix", core, queries, optimize=True), optimize=True)
    phi = scipy.special.softmax(np.where(problem.visible, logits, -np.inf), axis=2)
    scores = problem.labels[:, None] * np.einsum("itd,rd->rit", problem.tokens, u, optimize=True)
    return (phi * np.where(problem.visible, scores, 0.0)).sum(2), phi.max(2)


def _starts(problem: Problem, key: jax.Array, lanes: int, scale: float) -> Float[np.ndarray, "lanes d e"]:
    shape, (left, right) = problem.weights, frame_of(problem, "primal").bases  # type: ignore[attr-defined]
    drawn = [jax.random.normal(jax.random.fold_in(key, i), shape, np.float32) for i in range(lanes)]
    return scale * (left @ (left.T @ np.asarray(drawn, np.float64) @ right) @ right.T)


def _check(sets: Mapping[str, tuple[Problem, Problem | None]], rules: Sequence[Rule]) -> None:
    if not sets:
        raise ValueError("sets: expected at least one data set; got none")
    if not rules:
        raise ValueError("rules: expected at least one rule; got none")
    for rule in rules:
        check_rule(rule)
    for name, (train, test) in sets.items():
        if test is not None and (test.weights, test.shape[2]) != (train.weights, train.shape[2]):
            raise ValueError(
                f"sets: expected a test set with W of shape {train.weights} and d = {train.shape[2]} for {name!r}; "
                f"got {test.weights} and {test.shape[2]}"
            )
    if len({test is None for _, test in sets.values()}) > 1:
        raise ValueError("sets: expected a test set for every data set or for none; got some")


def _gather(names: list[str], found: list[list[Run]], settings: dict[str, Any]) -> Heads:
    first = found[0][0]
    curves = {}
    for name in (*ACCURACIES, *CURVES):
        if name == "test_accuracy" and name not in first.more:
            continue
        each = [[run.more[name] if name in run.more else getattr(run, name) for run in row] for row in found]
        curves[name] = np.array(each)
    settings |= {"rule_names": [r.settings["rule_name"] for r in found[0]]}
    settings |= {"dtype": first.settings["dtype"], "coordinates": [r.settings["coordinates"] for r in found[0]]}
    return Heads(
        pairs=names,
        rules=[run.settings["rule"] for run in found[0]],
        labels=[run.label for run in found[0]],
        steps=first.steps,
        curves=curves,
        saturated=np.array([[run.saturated[:, -1] for run in row] for row in found]),
        settings=settings,
        seconds=np.array([[run.settings["seconds"] for run in row] for row in found]),
    )


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean over an axis of what is finite; NaN where nothing is."""
    sound = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(sound, values, 0.0).sum(axis) / sound.sum(axis)
