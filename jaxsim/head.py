"""A head on real data: W and the decoder trained together, with accuracy on training and test sequences."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import numpy as np
import scipy.special
from jaxtyping import Float

from jaxsim._check import positive_number, whole_number
from jaxsim.coordinates import frame_of
from jaxsim.driver import record_steps
from jaxsim.init import Given
from jaxsim.problem import Problem
from jaxsim.results import Run
from jaxsim.results.heads import ACCURACIES, Heads
from jaxsim.rules import Rule, check_rule
from jaxsim.simulation import check_kept, simulate
from jaxsim.train import Joint
from jaxsim.train.tested import scores

if TYPE_CHECKING:
    pass

HEAD_CURVES = ("log10_loss", "norm", "decoder_norm", "direction_error", "decoder_direction_error", "attention")


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
        recorded, (d, e) = record_steps(steps, record), problem.W_shape
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
        u = self.decoders_of(view)
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
    return (phi * scores(problem, u)).sum(2), phi.max(2)


def _starts(problem: Problem, key: jax.Array, lanes: int, scale: float) -> Float[np.ndarray, "lanes d e"]:
    shape, (left, right) = problem.W_shape, frame_of(problem, "primal").bases  # type: ignore[attr-defined]
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
        if test is not None and (test.W_shape, test.shape[2]) != (train.W_shape, train.shape[2]):
            raise ValueError(
                f"sets: expected a test set with W of shape {train.W_shape} and d = {train.shape[2]} for {name!r}; "
                f"got {test.W_shape} and {test.shape[2]}"
            )
    if len({test is None for _, test in sets.values()}) > 1:
        raise ValueError("sets: expected a test set for every data set or for none; got some")


def _gather(names: list[str], found: list[list[Run]], settings: dict[str, Any]) -> Heads:
    first = found[0][0]
    curves = {}
    for name in (*ACCURACIES, *HEAD_CURVES):
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
